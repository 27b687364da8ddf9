"""Namespaces: how they come about, what their labels are, when they can go (NSP-003 to 020). Texts are the daemon's."""

from __future__ import annotations

from typing import Any

import pytest

from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.namespaces import Namespace, NamespaceStore
from refimpl.contract.types import TypedAny
from refimpl.metadata.containers import ContainerStore
from refimpl.metadata.database import Database
from refimpl.metadata.namespaces import NamespaceStore as Namespaces
from tests.metadata.trees import dump, fill, records

CTX = CallContext()
FORM = "must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"
TOO_LONG = "namespace.Labels: label key and value greater than maximum size (4096 bytes), key: k: invalid argument"


@pytest.fixture
def namespaces(database: Database) -> NamespaceStore:
    return Namespaces(database)


def test_create_answers_with_what_was_sent_and_stores_what_has_a_value(
    namespaces: NamespaceStore, store: MemoryStore
) -> None:
    sent = Namespace("good", {"a": "1", "empty": ""})

    assert namespaces.create(CTX, sent) == sent
    assert namespaces.get(CTX, "good") == Namespace("good", {"a": "1"})
    assert records(store, "good") == {"labels": {"a": b"1"}}


def test_a_label_without_key_is_refused_even_without_a_value(namespaces: NamespaceStore) -> None:
    with pytest.raises(Unknown, match=r"^key required$"):
        namespaces.create(CTX, Namespace("n", {"": ""}))

    assert namespaces.list(CTX) == []


def test_a_namespace_made_without_labels_has_an_empty_bucket_for_them(
    namespaces: NamespaceStore, store: MemoryStore
) -> None:
    namespaces.create(CTX, Namespace("plain"))

    assert records(store, "plain") == {"labels": {}}


def test_a_namespace_that_is_there_by_a_write_cannot_be_created(namespaces: NamespaceStore, database: Database) -> None:
    container = Container("c", runtime=RuntimeInfo("r"), spec=TypedAny())
    ContainerStore(database).create(CTX.with_namespace("t"), container)

    with pytest.raises(AlreadyExists) as refused:
        namespaces.create(CTX, Namespace("t", {"a": "1"}))

    assert str(refused.value) == 'namespace "t": already exists'
    assert namespaces.list(CTX) == [Namespace("t")]


@pytest.mark.parametrize(
    "namespace,error,text",
    [
        (Namespace(""), InvalidArgument, "identifier must not be empty: invalid argument"),
        (Namespace("a/b"), InvalidArgument, f'identifier "a/b" {FORM}'),
        (Namespace("../x"), InvalidArgument, f'identifier "../x" {FORM}'),
        (
            Namespace("x" * 77),
            InvalidArgument,
            f'identifier "{"x" * 77}" greater than maximum length (76 characters): invalid argument',
        ),
        (Namespace("big", {"k": "v" * 4096}), InvalidArgument, TOO_LONG),
        (Namespace("ek", {"": "v"}), Unknown, "key required"),
        (Namespace("version"), Unknown, "incompatible value"),
    ],
)
def test_a_namespace_that_cannot_be_is_refused_and_leaves_no_trace(
    namespaces: NamespaceStore, store: MemoryStore, namespace: Namespace, error: type[ContainerdError], text: str
) -> None:
    with pytest.raises(error) as refused:
        namespaces.create(CTX, namespace)

    assert str(refused.value) == text
    assert dump(store) == {"v1": {"version": b"\x06"}}


@pytest.mark.parametrize("name", ["zz", "", "../x", "version"])
def test_get_never_fails(namespaces: NamespaceStore, name: str) -> None:
    assert namespaces.get(CTX, name) == Namespace(name)


def test_a_list_is_in_byte_order_and_looks_at_no_header(namespaces: NamespaceStore) -> None:
    for name in ["b", "B", "9", "a.b", "a-b"]:
        namespaces.create(CTX, Namespace(name))

    names = [namespace.name for namespace in namespaces.list(CallContext(namespace="not/valid"))]
    assert names == ["9", "B", "a-b", "a.b", "b"]


@pytest.mark.parametrize(
    "labels,paths,result",
    [
        ({"b": "2"}, [], {"b": "2"}),
        ({"a": "", "b": "2"}, [], {"b": "2"}),
        ({}, [], {}),
        ({"b": "2", "ignored": "x"}, ["labels.b"], {"a": "1", "b": "2"}),
        ({"x.y/z": "2"}, ["labels.x.y/z"], {"a": "1", "x.y/z": "2"}),
        ({}, ["labels.a"], {}),
        ({"a": ""}, ["labels.a"], {}),
    ],
)
def test_an_update_replaces_all_labels_or_those_that_its_paths_name(
    namespaces: NamespaceStore, labels: dict[str, str], paths: list[str], result: dict[str, str]
) -> None:
    namespaces.create(CTX, Namespace("n", {"a": "1"}))

    assert namespaces.update(CTX, Namespace("n", labels), paths) == Namespace("n", result)
    assert namespaces.get(CTX, "n").labels == result


@pytest.mark.parametrize("path", ["labels", "name", "", "bogus"])
def test_an_update_with_another_path_changes_nothing(namespaces: NamespaceStore, path: str) -> None:
    namespaces.create(CTX, Namespace("n", {"a": "1"}))

    with pytest.raises(InvalidArgument) as refused:
        namespaces.update(CTX, Namespace("n", {"x": "1"}), ["labels.x", path])

    assert str(refused.value) == f'cannot update "{path}" field'
    assert namespaces.get(CTX, "n").labels == {"a": "1"}


@pytest.mark.parametrize("paths", [[], ["labels.k"]])
def test_a_label_that_is_too_long_has_another_kind_of_error_on_update(
    namespaces: NamespaceStore, paths: list[str]
) -> None:
    with pytest.raises(Unknown) as refused:
        namespaces.update(CTX, Namespace("n", {"k": "v" * 4096}), paths)

    assert str(refused.value) == TOO_LONG


@pytest.mark.parametrize(
    "labels,paths,names",
    [({"a": "1"}, [], ["n"]), ({}, ["labels.x"], ["n"]), ({}, [], [])],
)
def test_an_update_brings_a_namespace_about_if_there_is_something_to_write(
    namespaces: NamespaceStore, labels: dict[str, str], paths: list[str], names: list[str]
) -> None:
    namespaces.update(CTX, Namespace("n", labels), paths)

    assert [namespace.name for namespace in namespaces.list(CTX)] == names


@pytest.mark.parametrize("name,error", [("bad/ns", InvalidArgument), ("", InvalidArgument), ("version", Unknown)])
def test_an_update_creates_nothing_that_no_other_call_could_use(
    namespaces: NamespaceStore, store: MemoryStore, name: str, error: type[ContainerdError]
) -> None:
    with pytest.raises(error):
        namespaces.update(CTX, Namespace(name, {"a": "1"}))

    assert dump(store) == {"v1": {"version": b"\x06"}}


OBJECT: dict[str, Any] = {"o": {}}


@pytest.mark.parametrize(
    "content,held",
    [
        ({"images": OBJECT}, "images"),
        ({"content": {"blob": OBJECT}}, "blobs"),
        ({"containers": OBJECT}, "containers"),
        ({"snapshots": {"native": OBJECT}}, 'snapshots on "native" snapshotter'),
        (
            {
                "containers": OBJECT,
                "content": {"blob": OBJECT, "ingests": OBJECT},
                "images": OBJECT,
                "snapshots": {"b": OBJECT, "a": OBJECT, "empty": {}},
            },
            'images, blobs, containers, snapshots on "a" snapshotter, snapshots on "b" snapshotter',
        ),
    ],
)
def test_a_namespace_with_objects_cannot_be_deleted(
    namespaces: NamespaceStore, database: Database, content: dict[str, Any], held: str
) -> None:
    with database.update() as v1:
        fill(v1, {"n": content})

    with pytest.raises(FailedPrecondition) as refused:
        namespaces.delete(CTX, "n")

    assert str(refused.value) == f'namespace "n" must be empty, but it still has {held}: failed precondition'
    assert namespaces.list(CTX) == [Namespace("n")]


def test_what_is_no_object_goes_with_its_namespace(
    namespaces: NamespaceStore, database: Database, store: MemoryStore
) -> None:
    with database.update() as v1:
        fill(
            v1,
            {
                "n": {
                    "leases": OBJECT,
                    "content": {"ingests": OBJECT, "blob": {}},
                    "futurething": OBJECT,
                    "images": {},
                    "labels": {"a": b"1"},
                }
            },
        )

    namespaces.delete(CTX, "n", delete_cgroup=True)

    assert dump(store) == {"v1": {"version": b"\x06"}}
    assert not database.dirty, "a namespace is no object of the collector"


@pytest.mark.parametrize("name", ["nope", ""])
def test_an_unknown_namespace_cannot_be_deleted(namespaces: NamespaceStore, name: str) -> None:
    with pytest.raises(NotFound) as refused:
        namespaces.delete(CTX, name)

    assert str(refused.value) == f'namespace "{name}": not found'


def test_the_version_is_no_namespace_to_delete(namespaces: NamespaceStore, store: MemoryStore) -> None:
    with pytest.raises(Unknown, match="incompatible value"):
        namespaces.delete(CTX, "version")

    assert dump(store) == {"v1": {"version": b"\x06"}}
