"""Container records: what is stored, changed and refused (CTR-001 to 045, MET-031, MET-032). Texts are the daemon's."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import encode_time
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.types import TypedAny
from refimpl.metadata.containers import ContainerStore as Containers
from refimpl.metadata.database import Database
from tests.metadata.trees import dump, records

CTX = CallContext(namespace="t")
SPEC = TypedAny("s3", b"3")
OPTIONS = TypedAny("containerd.runc.v1.Options", b"\x08\x01")
CONTAINER = Container(
    "c1",
    labels={"a": "1", "empty": ""},
    image="img1",
    runtime=RuntimeInfo("io.containerd.runc.v2"),
    spec=SPEC,
    snapshotter="overlayfs",
    snapshot_key="k/1",
    created_at=5,
    updated_at=6,
    extensions={"ext.a": TypedAny("t/x", b"\x01")},
    sandbox_id="of the next release",
)
BARE = Container("bare", runtime=RuntimeInfo("r"), spec=TypedAny())


@pytest.fixture
def containers(database: Database) -> ContainerStore:
    return Containers(database)


def test_create_stores_what_it_answers_with_and_takes_the_time_from_the_clock(
    containers: ContainerStore, clock: FakeClock
) -> None:
    created = containers.create(CTX, CONTAINER)

    assert created == replace(
        CONTAINER, labels={"a": "1"}, created_at=clock.now(), updated_at=clock.now(), sandbox_id=""
    )
    assert containers.get(CTX, "c1") == created


def test_a_record_is_on_disk_as_containerd_writes_it(
    containers: ContainerStore, store: MemoryStore, clock: FakeClock
) -> None:
    containers.create(CTX, replace(CONTAINER, extensions={**CONTAINER.extensions, "ext.b": TypedAny()}))
    containers.create(CTX, replace(BARE, runtime=RuntimeInfo("r", OPTIONS)))

    now = encode_time(clock.now())
    assert records(store, "t", "containers") == {
        "bare": {
            "createdat": now,
            "updatedat": now,
            "spec": b"",
            "image": b"",
            "snapshotter": b"",
            "snapshotKey": b"",
            "runtime": {"name": b"r", "options": b"\x0a\x1acontainerd.runc.v1.Options\x12\x02\x08\x01"},
        },
        "c1": {
            "createdat": now,
            "updatedat": now,
            "spec": bytes.fromhex("0a027333120133"),
            "image": b"img1",
            "snapshotter": b"overlayfs",
            "snapshotKey": b"k/1",
            "runtime": {"name": b"io.containerd.runc.v2"},
            "extensions": {"ext.a": bytes.fromhex("0a03742f78120101"), "ext.b": b""},
            "labels": {"a": b"1"},
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        {"spec": TypedAny("whatever", b"\xff\x00")},
        {"spec": TypedAny()},
        {"runtime": RuntimeInfo("r", OPTIONS), "snapshot_key": "", "snapshotter": ""},
        {"runtime": RuntimeInfo("bogus runtime/../x", TypedAny())},
        {"extensions": {"e": TypedAny()}},
        {"snapshotter": "nosuch", "snapshot_key": "zz"},
        {"image": ""},
    ],
)
def test_what_is_opaque_comes_back_as_it_was(containers: ContainerStore, change: dict[str, object]) -> None:
    wanted = replace(CONTAINER, **change)  # type: ignore[arg-type]  # fields by name

    containers.create(CTX, wanted)

    got = containers.get(CTX, "c1")
    assert {name: getattr(got, name) for name in change} == change


@pytest.mark.parametrize("id", ["A1.b_c-d", "version", "labels", "x" * 76])
def test_words_of_the_database_are_ids_like_others(containers: ContainerStore, id: str) -> None:
    containers.create(CTX, replace(CONTAINER, id=id))

    assert [container.id for container in containers.list(CTX)] == [id]


FAILED = "create container failed validation: "
TOO_LONG = "containers.Labels: label key and value greater than maximum size (4096 bytes), key: "


@pytest.mark.parametrize(
    "change,error,text",
    [
        ({"id": ""}, InvalidArgument, FAILED + "container.ID: identifier must not be empty: invalid argument"),
        (
            {"id": "../x"},
            InvalidArgument,
            FAILED + 'container.ID: identifier "../x" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: '
            "invalid argument",
        ),
        (
            {"id": "x" * 77},
            InvalidArgument,
            FAILED
            + f'container.ID: identifier "{"x" * 77}" greater than maximum length (76 characters): invalid argument',
        ),
        ({"runtime": RuntimeInfo()}, InvalidArgument, FAILED + "container.Runtime.Name must be set: invalid argument"),
        ({"spec": None}, InvalidArgument, FAILED + "container.Spec must be set: invalid argument"),
        (
            {"snapshotter": ""},
            InvalidArgument,
            FAILED + "container.Snapshotter must be set if container.SnapshotKey is set: invalid argument",
        ),
        (
            {"extensions": {"": TypedAny()}},
            InvalidArgument,
            FAILED + "container.Extension keys must not be zero-length: invalid argument",
        ),
        (
            {"labels": {"kkkkkkkkkkkkkk": "v" * 4096}, "runtime": RuntimeInfo()},
            InvalidArgument,
            FAILED + TOO_LONG + "kkkkkkkkkk: invalid argument",
        ),
        ({"labels": {"": "v"}}, Unknown, 'failed to write container "c1": failed to set label ""="v": key required'),
    ],
)
def test_a_record_that_cannot_be_is_refused_and_leaves_no_trace(
    containers: ContainerStore, store: MemoryStore, change: dict[str, object], error: type[ContainerdError], text: str
) -> None:
    with pytest.raises(error) as refused:
        containers.create(CTX, replace(CONTAINER, **change))  # type: ignore[arg-type]  # fields by name

    assert str(refused.value) == text
    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_a_label_of_4096_bytes_fits_and_one_without_key_and_value_is_none(containers: ContainerStore) -> None:
    created = containers.create(CTX, replace(CONTAINER, labels={"k": "v" * 4095, "": ""}))

    assert created.labels == {"k": "v" * 4095}


def test_an_id_can_be_created_once_in_a_namespace(containers: ContainerStore) -> None:
    first = containers.create(CTX, CONTAINER)

    with pytest.raises(AlreadyExists) as refused:
        containers.create(CTX, replace(CONTAINER, image="other"))

    assert str(refused.value) == 'container "c1": already exists'
    assert containers.get(CTX, "c1") == first
    assert containers.create(CTX.with_namespace("u"), BARE).id == "bare"


def test_what_is_not_there_is_named_as_containerd_names_it(containers: ContainerStore) -> None:
    unused = CTX.with_namespace("nope")
    containers.create(CTX, CONTAINER)

    texts = []
    for ctx, id in [(CTX, "zz"), (unused, "zz")]:
        for call in (
            containers.get,
            lambda c, i: containers.update(c, replace(CONTAINER, id=i)),
            containers.delete,
        ):
            with pytest.raises(NotFound) as missing:
                call(ctx, id)
            texts.append(str(missing.value))

    assert texts == [
        'container "zz" in namespace "t": not found',
        'container "zz": not found',
        "container zz: not found",
        'container "zz" in namespace "nope": not found',
        'cannot update container "zz" in namespace "nope": not found',
        'cannot delete container "zz" in namespace "nope": not found',
    ]


def test_a_list_is_in_byte_order(containers: ContainerStore) -> None:
    for id in ["Z", "a", "A", "10", "9", "a.b", "a-b"]:
        containers.create(CTX, replace(CONTAINER, id=id))

    assert [container.id for container in containers.list(CTX)] == ["10", "9", "A", "Z", "a", "a-b", "a.b"]
    assert containers.list(CTX.with_namespace("unused")) == []


@pytest.mark.parametrize(
    "filters,ids",
    [
        (["id==f1"], ["f1"]),
        (["id.ignored==f1"], ["f1"]),
        (["id~=/f[12]/"], ["f1", "f2"]),
        (["id!=f1"], ["f2", "f3"]),
        (["image"], ["f1", "f2"]),
        (["image==docker.io/a"], ["f1"]),
        (["labels.env==prod"], ["f1"]),
        (['labels."a.b"==c'], ["f1"]),
        (["labels.a.b==c"], ["f1"]),
        (["runtime.name==io.other"], ["f2"]),
        (["runtime"], []),
        (["runtime==io.other"], []),
        (["runtime.options"], []),
        (["snapshotter==overlayfs"], []),
        (["labels"], []),
        (["nosuch!=x"], ["f1", "f2", "f3"]),
        (["id==f1", "id==f3"], ["f1", "f3"]),
        (["id==f1,image==docker.io/b"], []),
        (["id~=["], []),
    ],
)
def test_filters_see_id_image_runtime_name_and_labels(
    containers: ContainerStore, filters: list[str], ids: list[str]
) -> None:
    containers.create(CTX, replace(CONTAINER, id="f1", image="docker.io/a", labels={"env": "prod", "a.b": "c"}))
    other = RuntimeInfo("io.other")
    containers.create(CTX, replace(CONTAINER, id="f2", image="docker.io/b", labels={"env": "dev"}, runtime=other))
    containers.create(CTX, replace(BARE, id="f3"))

    assert [container.id for container in containers.list(CTX, filters)] == ids


WANTED = Container(
    "c1",
    labels={"a": "", "b": "2"},
    image="img2",
    runtime=RuntimeInfo("io.containerd.runc.v2", OPTIONS),
    spec=TypedAny("s2", b"2"),
    snapshotter="overlayfs",
    snapshot_key="k/2",
    extensions={"ext.b": TypedAny("t/y", b"\x02")},
)


@pytest.mark.parametrize(
    "paths,changed",
    [
        (["labels"], {"labels": {"b": "2"}}),
        (["labels.b"], {"labels": {"a": "1", "b": "2"}}),
        (["labels.a"], {"labels": {}}),
        (["labels.nosuch"], {}),
        (["spec"], {"spec": TypedAny("s2", b"2")}),
        (["image"], {"image": "img2"}),
        (["snapshotkey"], {"snapshot_key": "k/2"}),
        (["extensions"], {"extensions": {"ext.b": TypedAny("t/y", b"\x02")}}),
        (
            ["extensions.ext.b"],
            {"extensions": {"ext.a": TypedAny("t/x", b"\x01"), "ext.b": TypedAny("t/y", b"\x02")}},
        ),
        (["extensions.ext.a"], {"extensions": {"ext.a": TypedAny()}}),
        (["image", "labels.b"], {"image": "img2", "labels": {"a": "1", "b": "2"}}),
        (
            [],
            {
                "labels": {"b": "2"},
                "image": "img2",
                "spec": TypedAny("s2", b"2"),
                "snapshot_key": "k/2",
                "extensions": {"ext.b": TypedAny("t/y", b"\x02")},
            },
        ),
    ],
)
def test_an_update_changes_what_its_paths_name(
    containers: ContainerStore, clock: FakeClock, paths: list[str], changed: dict[str, object]
) -> None:
    created = containers.create(CTX, CONTAINER)
    clock.advance(1)

    updated = containers.update(CTX, WANTED, paths)

    assert updated == replace(created, updated_at=clock.now(), **changed)  # type: ignore[arg-type]  # fields by name
    assert containers.get(CTX, "c1") == updated


def test_runtime_options_stay_as_they_were_created(containers: ContainerStore) -> None:
    containers.create(CTX, replace(CONTAINER, runtime=RuntimeInfo("r", OPTIONS)))

    updated = containers.update(CTX, replace(CONTAINER, runtime=RuntimeInfo("r", TypedAny("zz", b"9"))))

    assert updated.runtime == containers.get(CTX, "c1").runtime == RuntimeInfo("r", OPTIONS)


@pytest.mark.parametrize(
    "change,paths,text",
    [
        ({"snapshotter": "native"}, [], "container.Snapshotter field is immutable"),
        ({"snapshotter": ""}, [], "container.Snapshotter field is immutable"),
        ({"runtime": RuntimeInfo()}, [], "container.Runtime.Name field is immutable"),
        ({"runtime": RuntimeInfo("other")}, [], "container.Runtime.Name field is immutable"),
        ({"spec": None}, [], "update failed validation: container.Spec must be set"),
        ({"spec": None}, ["spec"], "update failed validation: container.Spec must be set"),
        (
            {"extensions": {}},
            ["extensions."],
            "update failed validation: container.Extension keys must not be zero-length",
        ),
        (
            {"labels": {"big": "v" * 4096}},
            ["labels.big"],
            "update failed validation: " + TOO_LONG + "big",
        ),
        *(
            ({"labels": {"a": "9"}}, ["labels.a", path], f'cannot update "{path}" field on "c1"')
            for path in [
                *("snapshot_key", "snapshotter", "runtime", "runtime.name", "runtime.options", "id", "created_at"),
                *("createdat", "Labels", "", "sandbox", "sandboxid", "spec.value", "*"),
            ]
        ),
    ],
)
def test_an_update_that_is_refused_changes_nothing(
    containers: ContainerStore, change: dict[str, object], paths: list[str], text: str
) -> None:
    created = containers.create(CTX, CONTAINER)

    with pytest.raises(InvalidArgument) as refused:
        containers.update(CTX, replace(CONTAINER, **change), paths)  # type: ignore[arg-type]  # fields by name

    assert str(refused.value) == f"{text}: invalid argument"
    assert containers.get(CTX, "c1") == created


def test_a_snapshot_key_cannot_come_to_a_container_without_snapshotter(containers: ContainerStore) -> None:
    containers.create(CTX, BARE)

    with pytest.raises(InvalidArgument, match="Snapshotter must be set if"):
        containers.update(CTX, replace(BARE, snapshot_key="k"), ["snapshotkey"])


def test_an_update_needs_an_id(containers: ContainerStore, store: MemoryStore) -> None:
    with pytest.raises(InvalidArgument) as refused:
        containers.update(CTX, replace(CONTAINER, id=""))

    assert str(refused.value) == "Container.ID required"
    with pytest.raises(InvalidArgument, match=r"^Container.ID required$"):
        containers.update(CallContext(), Container(""))
    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_a_label_without_key_cannot_come_by_an_update(containers: ContainerStore) -> None:
    created = containers.create(CTX, CONTAINER)

    with pytest.raises(Unknown) as refused:
        containers.update(CTX, replace(CONTAINER, labels={"": "1"}), ["labels."])

    assert str(refused.value) == 'failed to write container "c1": failed to set label ""="1": key required'
    assert containers.get(CTX, "c1") == created


def test_a_deletion_frees_the_id_and_is_one_for_the_collector(containers: ContainerStore, database: Database) -> None:
    containers.create(CTX, CONTAINER)

    containers.delete(CTX, "c1")

    assert database.dirty
    assert containers.list(CTX) == []
    with pytest.raises(NotFound):
        containers.delete(CTX, "c1")
    with pytest.raises(NotFound):
        containers.delete(CTX, "")
    containers.create(CTX, CONTAINER)


def test_masked_updates_by_many_threads_all_take_effect(containers: ContainerStore) -> None:
    containers.create(CTX, CONTAINER)

    def label(key: str) -> None:
        containers.update(CTX, replace(CONTAINER, labels={key: "1"}), [f"labels.{key}"])

    threads = [threading.Thread(target=label, args=(f"l{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert containers.get(CTX, "c1").labels == {"a": "1"} | {f"l{number}": "1" for number in range(16)}


def test_the_lease_of_a_call_means_nothing_to_containers(containers: ContainerStore) -> None:
    assert containers.create(CTX.with_lease("nolease"), CONTAINER).id == "c1"


def test_every_call_needs_a_namespace(containers: ContainerStore) -> None:
    ctx = CallContext()
    for call in (
        lambda: containers.get(ctx, "c1"),
        lambda: containers.list(ctx),
        lambda: containers.create(ctx, CONTAINER),
        lambda: containers.update(ctx, CONTAINER),
        lambda: containers.delete(ctx, "c1"),
    ):
        with pytest.raises(FailedPrecondition, match="namespace is required"):
            call()
