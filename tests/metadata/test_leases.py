"""Leases: what they list, and what calls under them put on and take off (LEA-001 to 027). Texts are the daemon's."""

from __future__ import annotations

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import encode_time
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.leases import Lease, LeaseManager, Resource
from refimpl.metadata import leases as held
from refimpl.metadata.database import Database
from refimpl.metadata.leases import LeaseManager as Leases
from tests.metadata.trees import dump, records

CTX = CallContext(namespace="t")
DIGEST = "sha256:" + "a" * 64
CONTENT = Resource(DIGEST, "content")


@pytest.fixture
def leases(database: Database) -> LeaseManager:
    return Leases(database)


def test_create_stores_what_it_answers_with(leases: LeaseManager, clock: FakeClock, store: MemoryStore) -> None:
    created = leases.create(CTX, "l1", {"a": "1", "empty": ""})

    assert created == Lease("l1", clock.now(), {"a": "1"})
    assert leases.list(CTX) == [created]
    assert records(store, "t", "leases") == {"l1": {"createdat": encode_time(clock.now()), "labels": {"a": b"1"}}}


def test_an_id_can_be_created_once_in_a_namespace(leases: LeaseManager) -> None:
    first = leases.create(CTX, "l1", {"a": "1"})

    with pytest.raises(AlreadyExists) as refused:
        leases.create(CTX, "l1", {"z": "1"})

    assert str(refused.value) == 'lease "l1": already exists'
    assert leases.list(CTX) == [first]
    leases.create(CTX.with_namespace("u"), "l1")


@pytest.mark.parametrize("id", ["a/b", "../x", "a b", "-x", "x" * 40_000])
def test_ids_and_the_length_of_labels_are_not_checked(leases: LeaseManager, id: str) -> None:
    leases.create(CTX, id, {"k": "v" * 5000})

    assert [lease.id for lease in leases.list(CTX)] == [id]
    leases.delete(CTX, id)
    assert leases.list(CTX) == []


@pytest.mark.parametrize(
    "namespace,id,labels,error,text",
    [
        ("t", "", {}, InvalidArgument, "lease id must be provided: invalid argument"),
        ("t", "ek", {"": "v"}, Unknown, 'failed to set label ""="v": key required'),
        ("version", "l", {}, Unknown, "incompatible value"),
    ],
)
def test_a_lease_that_cannot_be_leaves_no_trace(
    leases: LeaseManager,
    store: MemoryStore,
    namespace: str,
    id: str,
    labels: dict[str, str],
    error: type[ContainerdError],
    text: str,
) -> None:
    with pytest.raises(error) as refused:
        leases.create(CTX.with_namespace(namespace), id, labels)

    assert str(refused.value) == text
    assert dump(store) == {"v1": {"version": b"\x06"}}


@pytest.mark.parametrize(
    "filters,ids",
    [
        ([], ["10", "9", "Z", "a"]),
        (["id==a"], ["a"]),
        (["id.ignored==a"], ["a"]),
        (["id~=/[aZ]/"], ["Z", "a"]),
        (["labels.env"], ["a"]),
        (['labels."x.y"==1'], ["a"]),
        (["id==a", "id==9"], ["9", "a"]),
        (["id==a,id==9"], []),
        (["nosuch"], []),
        (["labels"], []),
        (["nosuch!=1"], ["10", "9", "Z", "a"]),
    ],
)
def test_a_list_is_in_byte_order_and_filters_see_id_and_labels(
    leases: LeaseManager, filters: list[str], ids: list[str]
) -> None:
    for id, labels in [("Z", {}), ("a", {"env": "p", "x.y": "1"}), ("10", {}), ("9", {})]:
        leases.create(CTX, id, labels)

    assert [lease.id for lease in leases.list(CTX, filters)] == ids
    assert leases.list(CTX.with_namespace("unused"), filters) == []


def test_a_filter_that_does_not_parse_is_refused(leases: LeaseManager) -> None:
    with pytest.raises(InvalidArgument, match="unsupported operator"):
        leases.list(CTX, ["id=x"])


def test_a_deletion_is_one_for_the_collector_and_a_failed_one_is_not(leases: LeaseManager, database: Database) -> None:
    leases.create(CTX, "l1")

    for id in ["nope", ""]:
        with pytest.raises(NotFound) as refused:
            leases.delete(CTX, id, sync=True)
        assert str(refused.value) == f'lease "{id}": not found'
    before = database.dirty
    leases.delete(CTX, "l1")

    assert (before, database.dirty) == (False, True)
    assert leases.list(CTX) == []


def test_resources_are_listed_by_kind_and_in_byte_order_and_need_not_exist(
    leases: LeaseManager, store: MemoryStore, clock: FakeClock
) -> None:
    leases.create(CTX, "l1")
    resources = [
        Resource(DIGEST, "content"),
        Resource("sha512:" + "a" * 128, "content"),
        Resource("ref-1", "ingests"),
        Resource("k1", "snapshots/native"),
        Resource("k2", "snapshots/native"),
        Resource("k1", "snapshots/nosuch"),
    ]

    for resource in [*reversed(resources), *resources]:
        leases.add_resource(CTX, "l1", resource)

    assert leases.list_resources(CTX, "l1") == resources
    assert records(store, "t", "leases", "l1") == {
        "createdat": encode_time(clock.now()),
        "content": {DIGEST: b"", "sha512:" + "a" * 128: b""},
        "ingests": {"ref-1": b""},
        "snapshots": {"native": {"k1": b"", "k2": b""}, "nosuch": {"k1": b""}},
    }


def test_a_resource_can_be_taken_off_and_counts_as_a_deletion_even_if_it_was_not_there(
    leases: LeaseManager, database: Database, store: MemoryStore
) -> None:
    leases.create(CTX, "l1")
    leases.add_resource(CTX, "l1", CONTENT)

    leases.delete_resource(CTX, "l1", CONTENT)

    assert database.dirty
    assert leases.list_resources(CTX, "l1") == []
    assert records(store, "t", "leases", "l1", "content") == {}, "the bucket stays"

    database.take_dirty()
    leases.delete_resource(CTX, "l1", Resource("k", "snapshots/nosuch"))
    assert database.dirty


@pytest.mark.parametrize(
    "resource,error,text",
    [
        (Resource("x", "containers"), Unimplemented, "resource type containers not supported yet: not implemented"),
        (Resource("x", "images"), Unimplemented, "resource type images not supported yet: not implemented"),
        (Resource("x", "images/x"), Unimplemented, "resource type images/x not supported yet: not implemented"),
        (Resource("x", "labels"), Unimplemented, "resource type labels not supported yet: not implemented"),
        (Resource("x", ""), Unimplemented, "resource type  not supported yet: not implemented"),
        (Resource(DIGEST, "Content"), Unimplemented, "resource type Content not supported yet: not implemented"),
        (Resource(DIGEST, "content/x"), InvalidArgument, "invalid resource type content/x: invalid argument"),
        (Resource("r", "ingests/x"), InvalidArgument, "invalid resource type ingests/x: invalid argument"),
        (Resource("k", "snapshots"), InvalidArgument, "invalid snapshot resource type snapshots: invalid argument"),
        (
            Resource("k", "snapshots/a/b"),
            InvalidArgument,
            "invalid snapshot resource type snapshots/a/b: invalid argument",
        ),
        (
            Resource("foo", "content"),
            InvalidArgument,
            "invalid content resource id foo: invalid checksum digest format: invalid argument",
        ),
        (
            Resource("sha256:xyz", "content"),
            InvalidArgument,
            "invalid content resource id sha256:xyz: invalid checksum digest length: invalid argument",
        ),
        (
            Resource("md5:" + "0" * 32, "content"),
            InvalidArgument,
            f"invalid content resource id md5:{'0' * 32}: unsupported digest algorithm: invalid argument",
        ),
    ],
)
def test_what_cannot_be_held_can_be_neither_added_nor_removed(
    leases: LeaseManager, resource: Resource, error: type[ContainerdError], text: str
) -> None:
    leases.create(CTX, "l1")

    for call in (leases.add_resource, leases.delete_resource):
        with pytest.raises(error) as refused:
            call(CTX, "l1", resource)
        assert str(refused.value) == text
    assert leases.list_resources(CTX, "l1") == []


@pytest.mark.parametrize(
    "resource", [Resource("", "ingests"), Resource("", "snapshots/n"), Resource("k", "snapshots/")]
)
def test_an_empty_name_cannot_be_added_and_is_nothing_to_remove(leases: LeaseManager, resource: Resource) -> None:
    leases.create(CTX, "l1")

    with pytest.raises(InvalidArgument):
        leases.add_resource(CTX, "l1", resource)
    leases.delete_resource(CTX, "l1", resource)

    assert leases.list_resources(CTX, "l1") == []


def test_an_unknown_lease_is_noticed_before_the_resource_is_looked_at(leases: LeaseManager, store: MemoryStore) -> None:
    bogus = Resource("x", "bogus")

    for call in (
        lambda: leases.add_resource(CTX, "no", bogus),
        lambda: leases.delete_resource(CTX, "no", bogus),
        lambda: leases.list_resources(CTX, "no"),
    ):
        with pytest.raises(NotFound) as refused:
            call()
        assert str(refused.value) == 'lease "no": not found'
    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_every_call_needs_a_namespace(leases: LeaseManager) -> None:
    ctx = CallContext()
    for call in (
        lambda: leases.create(ctx, "l"),
        lambda: leases.delete(ctx, "l"),
        lambda: leases.list(ctx),
        lambda: leases.add_resource(ctx, "l", CONTENT),
        lambda: leases.delete_resource(ctx, "l", CONTENT),
        lambda: leases.list_resources(ctx, "l"),
    ):
        with pytest.raises(FailedPrecondition):
            call()


def test_what_a_call_under_a_lease_makes_is_put_on_that_lease_alone(leases: LeaseManager, database: Database) -> None:
    leases.create(CTX, "w1")
    leases.create(CTX, "w2")
    under = CTX.with_lease("w1")

    with database.update() as v1:
        assert held.add_content(under, v1, DIGEST)
        assert held.add_ingest(under, v1, "ref")
        assert held.add_snapshot(under, v1, "native", "k1")

    on_w1 = [CONTENT, Resource("ref", "ingests"), Resource("k1", "snapshots/native")]
    assert leases.list_resources(CTX, "w1") == on_w1
    assert leases.list_resources(CTX, "w2") == []

    with database.update() as v1:
        for other in (CTX, CTX.with_lease("w2"), CTX.with_lease("nolease")):
            held.remove_content(other, v1, DIGEST)
            held.remove_ingest(other, v1, "ref")
            held.remove_snapshot(other, v1, "native", "k1")
    assert leases.list_resources(CTX, "w1") == on_w1, "only the call's own lease lets go"

    with database.update() as v1:
        held.remove_content(under, v1, DIGEST)
        held.remove_ingest(under, v1, "ref")
        held.remove_snapshot(under, v1, "native", "k1")
        held.remove_snapshot(under, v1, "overlayfs", "never there")
    assert leases.list_resources(CTX, "w1") == []


def test_a_call_under_no_lease_holds_nothing(database: Database, store: MemoryStore) -> None:
    with database.update() as v1:
        assert held.require(CTX, v1) is None
        assert not held.add_content(CTX, v1, DIGEST)
        assert not held.add_ingest(CTX, v1, "ref")
        assert not held.add_snapshot(CTX, v1, "native", "k1")

    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_a_call_under_an_unknown_lease_is_refused(leases: LeaseManager, database: Database) -> None:
    leases.create(CTX, "of t")
    for ctx in (CTX.with_lease("nolease"), CallContext(namespace="u", lease="of t")):
        with database.update() as v1:
            for call in (
                lambda c=ctx, b=v1: held.require(c, b),
                lambda c=ctx, b=v1: held.add_content(c, b, DIGEST),
                lambda c=ctx, b=v1: held.add_ingest(c, b, "ref"),
                lambda c=ctx, b=v1: held.add_snapshot(c, b, "native", "k1"),
            ):
                with pytest.raises(NotFound) as refused:
                    call()
                assert str(refused.value) == "lease does not exist: not found"
