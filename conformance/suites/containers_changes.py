"""Containers: updates, removal, events, and what records have to do with namespaces, leases and collections.

CTR-018 to CTR-045, without the raw calls.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from conformance import clause
from conformance.suites._containers import (
    RUNC_OPTIONS,
    RUNTIME,
    SERVICE,
    SPEC,
    exists,
    ids,
    listed,
    listen,
    message,
    record,
    whole,
)
from conformance.suites._content import eventually, fresh, has, store
from refimpl.api import containers_v1_pb2 as pb
from refimpl.api.event_types_pb2 import ContainerCreate, ContainerDelete, ContainerUpdate
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.types import TypedAny

FULL = {
    "image": "img2",
    "labels": {"b": "2"},
    "snapshot_key": "k/2",
    "spec": TypedAny("s2", b"\x02"),
    "extensions": {"ext.b": TypedAny("t/y", b"\x02")},
}
"""Another value for every field that can change."""

MASKS = ["labels", "spec", "extensions", "image", "snapshotkey"]

BAD_MASKS = [
    "snapshot_key", "snapshotKey", "snapshotter", "runtime", "runtime.name", "runtime.options", "id", "created_at",
    "createdat", "updated_at", "Labels", "Image", "", "sandbox", "sandboxid", "spec.value", "*", "image.name",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- updates


@clause("CTR-018")
@pytest.mark.parametrize("form", ["full", "cleared"])
def test_an_update_without_mask_replaces_what_can_change(ctx, containers, form):
    """Rejects: labels that are merged, or fields that keep their value because the request says nothing."""
    made = containers.create(ctx, whole("c1"))
    said = FULL if form == "full" else {**FULL, "image": "", "labels": {}, "snapshot_key": ""}

    containers.update(ctx, whole("c1", **said))

    got = containers.get(ctx, "c1")
    # Which extensions are left is another matter (CTR-026).
    assert got == replace(made, **{**said, "extensions": got.extensions}, updated_at=got.updated_at)


@clause("CTR-018", needs=("wire",))
def test_a_mask_without_paths_is_no_mask(ctx, containers, wire):
    """Rejects: an update that changes nothing because its mask names nothing."""
    containers.create(ctx, whole("c1"))

    answer = wire.call(
        f"{SERVICE}/Update",
        pb.UpdateContainerRequest(container=message(whole("c1", **FULL)), update_mask=FieldMask()),
        namespace=ctx.namespace,
    )

    assert answer.ok, answer
    got = containers.get(ctx, "c1")
    assert (got.image, got.labels, got.snapshot_key, got.spec) == (
        "img2", {"b": "2"}, "k/2", TypedAny("s2", b"\x02"),
    )  # fmt: skip


@clause("CTR-019")
@pytest.mark.parametrize(
    "change",
    [
        {"snapshotter": "native"},
        {"snapshotter": "", "snapshot_key": ""},
        {"runtime": RuntimeInfo("other")},
        {"runtime": RuntimeInfo("")},
    ],
    ids=["other snapshotter", "no snapshotter", "other runtime", "no runtime"],
)
def test_an_update_without_mask_repeats_runtime_and_snapshotter(ctx, containers, change):
    """Rejects: a difference that is ignored, or applied."""
    made = containers.create(ctx, whole("c1"))

    with pytest.raises(InvalidArgument):
        containers.update(ctx, whole("c1", **{**FULL, **change}))

    assert containers.get(ctx, "c1") == made


@clause("CTR-020")
def test_runtime_options_are_those_of_the_creation(ctx, containers):
    """Rejects: options that a full update replaces, drops, or fails on, and a mask path for them."""
    made = containers.create(ctx, record("v14", runtime=RuntimeInfo("r", RUNC_OPTIONS)))

    for options in (TypedAny("zz", b"9"), None):
        updated = containers.update(ctx, record("v14", runtime=RuntimeInfo("r", options)))
        assert updated.runtime == made.runtime
        assert containers.get(ctx, "v14").runtime == made.runtime

    with pytest.raises(InvalidArgument):
        containers.update(ctx, record("v14", runtime=RuntimeInfo("r", TypedAny("zz", b"9"))), ["runtime.options"])
    assert containers.get(ctx, "v14").runtime == made.runtime


@clause("CTR-021")
@pytest.mark.parametrize("path", MASKS)
def test_each_field_that_can_change_has_a_mask_path(ctx, containers, path):
    """Rejects: the protobuf name snapshot_key in the place of snapshotkey, or a path that is taken and does nothing."""
    made = containers.create(ctx, whole("c1"))
    field = {"snapshotkey": "snapshot_key"}.get(path, path)

    updated = containers.update(ctx, whole("c1", **FULL), [path])

    assert updated == replace(made, **{field: FULL[field]}, updated_at=updated.updated_at)


@clause("CTR-021")
@pytest.mark.parametrize("path", BAD_MASKS, ids=repr)
def test_no_other_mask_path_is_taken(ctx, containers, path):
    """Rejects: paths by the names of the message, in other spellings, or to what cannot change."""
    made = containers.create(ctx, whole("c1"))

    with pytest.raises(InvalidArgument):
        containers.update(ctx, whole("c1", **FULL), [path])

    assert containers.get(ctx, "c1") == made


@clause("CTR-022")
def test_an_update_with_mask_changes_what_it_names_and_nothing_else(ctx, containers):
    """Rejects: the whole request applied as soon as there is a mask, or a demand for runtime and snapshotter."""
    made = containers.create(ctx, whole("c1"))

    wanted = Container("c1", image="m1", labels={"z": "1", "y": "1"}, spec=TypedAny("s4", b"\x04"))
    containers.update(ctx, wanted, ["image", "labels.z"])

    got = containers.get(ctx, "c1")
    assert got == replace(made, image="m1", labels={"a": "1", "z": "1"}, updated_at=got.updated_at)


@clause("CTR-022")
def test_with_a_mask_other_runtimes_and_snapshotters_do_not_matter(ctx, containers):
    """Rejects: the comparison that an update without mask makes."""
    made = containers.create(ctx, whole("c1"))

    containers.update(ctx, whole("c1", runtime=RuntimeInfo("other"), snapshotter="native", image="m1"), ["image"])

    got = containers.get(ctx, "c1")
    assert got == replace(made, image="m1", updated_at=got.updated_at)


@clause("CTR-023")
def test_a_mask_can_name_one_label(ctx, containers):
    """Rejects: keys that end at the second dot, empty labels that are kept, other labels of the request, not found."""
    containers.create(ctx, record("c1", labels={"b": "2"}))
    for labels, path, after in (
        ({"x": "1", "y": "2"}, "labels.x", {"b": "2", "x": "1"}),
        ({"x.y/z": "1", "x": "9"}, "labels.x.y/z", {"b": "2", "x": "1", "x.y/z": "1"}),
        ({}, "labels.x", {"b": "2", "x.y/z": "1"}),
        ({}, "labels.nosuch", {"b": "2", "x.y/z": "1"}),
        ({"b": ""}, "labels.b", {"x.y/z": "1"}),
        ({"only": "1"}, "labels", {"only": "1"}),
        ({}, "labels", {}),
    ):
        updated = containers.update(ctx, Container("c1", labels=labels), [path])
        assert (updated.labels, containers.get(ctx, "c1").labels) == (after, after), (labels, path)


@clause("CTR-023")
def test_a_label_without_a_key_cannot_be_set(ctx, containers):
    """Rejects: an empty key that is taken."""
    made = containers.create(ctx, record("c1", labels={"b": "2"}))

    with pytest.raises((Unknown, InvalidArgument)):
        containers.update(ctx, Container("c1", labels={"": "1"}), ["labels."])

    assert containers.get(ctx, "c1") == made


@clause("CTR-024")
def test_a_mask_can_name_spec_image_and_snapshot_key(ctx, containers):
    """Rejects: an image that cannot be emptied, a snapshotter that changes with the key, a spec that stays."""
    containers.create(ctx, whole("c1"))

    containers.update(ctx, Container("c1", spec=TypedAny("s3", b"\x03")), ["spec"])
    assert containers.get(ctx, "c1").spec == TypedAny("s3", b"\x03")
    containers.update(ctx, Container("c1", image="img9"), ["image"])
    assert containers.get(ctx, "c1").image == "img9"
    containers.update(ctx, Container("c1"), ["image"])
    assert containers.get(ctx, "c1").image == ""
    containers.update(ctx, Container("c1", snapshotter="native", snapshot_key="k/3"), ["snapshotkey"])
    got = containers.get(ctx, "c1")
    assert (got.snapshot_key, got.snapshotter) == ("k/3", "overlayfs")
    containers.update(ctx, Container("c1"), ["snapshotkey"])
    assert containers.get(ctx, "c1").snapshot_key == ""


@clause("CTR-024")
def test_a_mask_that_names_a_spec_which_is_missing_erases_nothing(ctx, containers):
    """Rejects: a container that is left without its spec."""
    containers.create(ctx, whole("c1"))

    # 1.6 refuses; 2.x says yes and keeps what it has.
    with suppress(InvalidArgument):
        containers.update(ctx, Container("c1"), ["spec"])

    assert containers.get(ctx, "c1").spec == SPEC


@clause("CTR-025")
def test_a_mask_can_name_one_extension(ctx, containers):
    """Rejects: all extensions of the request, keys that end at the second dot, or an extension that goes away."""
    a, b = TypedAny("t/x", b"\x01"), TypedAny("t/y", b"\x02")
    containers.create(ctx, record("c1", extensions={"ext.a": a, "ext.b": b}))

    other = TypedAny("t/y2", b"\x04")
    wanted = Container("c1", extensions={"ext.b": other, "ext": TypedAny("q", b""), "ignored": TypedAny("q", b"")})
    containers.update(ctx, wanted, ["extensions.ext.b"])
    assert containers.get(ctx, "c1").extensions == {"ext.a": a, "ext.b": other}

    containers.update(ctx, Container("c1"), ["extensions.ext.b"])
    assert containers.get(ctx, "c1").extensions == {"ext.a": a, "ext.b": TypedAny()}

    containers.update(ctx, Container("c1", extensions={"x.y/z": b}), ["extensions.x.y/z"])
    assert containers.get(ctx, "c1").extensions == {"ext.a": a, "ext.b": TypedAny(), "x.y/z": b}


@clause("CTR-026")
def test_replaced_extensions_are_in_the_answer_and_are_stored(ctx, containers):
    """Rejects: a new extension that is lost, or an answer with more than the request asked for."""
    a, b, c = (TypedAny("t", bytes([n])) for n in range(3))
    containers.create(ctx, record("c1", extensions={"ext.a": a}))

    assert containers.update(ctx, record("c1", extensions={"ext.b": b})).extensions == {"ext.b": b}
    # The real daemons store a union; replacing for real is allowed.
    first = containers.get(ctx, "c1").extensions
    assert first in ({"ext.b": b}, {"ext.a": a, "ext.b": b})

    assert containers.update(ctx, record("c1")).extensions == {}
    second = containers.get(ctx, "c1").extensions
    assert second in ({}, first)

    assert containers.update(ctx, Container("c1", extensions={"ext.c": c}), ["extensions"]).extensions == {"ext.c": c}
    assert containers.get(ctx, "c1").extensions in ({"ext.c": c}, {**second, "ext.c": c})


@clause("CTR-027")
def test_an_update_that_is_refused_changes_nothing(ctx, containers, listen):
    """Rejects: paths that are applied as they are read, a time that moves, or an event for what did not happen."""
    made = containers.create(ctx, whole("c1"))
    told = listen()

    for wanted, paths in (
        (whole("c1", image="rolled"), ["image", "bogus"]),
        (whole("c1", image="rolled"), ["bogus", "image"]),
        (whole("c1", image="rolled", labels={"long": "v" * 4096}), ["image", "labels.long"]),
        (whole("c1", image="rolled", extensions={"": TypedAny()}), ["image", "extensions"]),
        (whole("c1", image="rolled", labels={"": "v"}), ["image", "labels."]),
    ):
        with pytest.raises((InvalidArgument, Unknown)):
            containers.update(ctx, wanted, paths)
        assert containers.get(ctx, "c1") == made, paths

    assert told() == []


@clause("CTR-028")
def test_a_container_that_is_not_there_cannot_be_updated(ctx, containers, namespaces, new_namespace):
    """Rejects: an update that creates the container, or the namespace; another error for an empty id."""
    never = new_namespace(lease=False)
    containers.create(ctx, record("other"))

    for paths in ([], ["image"]):
        with pytest.raises(InvalidArgument):
            containers.update(ctx, record(""), paths)
        for where in (ctx, never):
            with pytest.raises(NotFound):
                containers.update(where, record("nope", image="x"), paths)

    assert ids(containers, ctx) == ["other"]
    assert not listed(namespaces, never.namespace)


@clause("CTR-029")
@pytest.mark.parametrize("paths", [["image"], ["labels.z"], ["image", "snapshotkey"], []], ids=str)
def test_an_update_answers_with_the_record_after_the_change(ctx, containers, paths):
    """Rejects: an answer that echoes the request, or has the record as it was."""
    made = containers.create(ctx, whole("c1", runtime=replace(RUNTIME, options=RUNC_OPTIONS)))

    wanted = whole("c1", image="m1", labels={"z": "1"}, snapshot_key="k/9")
    answer = containers.update(ctx, wanted, paths)

    assert replace(answer, extensions={}) == replace(containers.get(ctx, "c1"), extensions={})
    assert (answer.created_at, answer.runtime) == (made.created_at, made.runtime)


@clause("CTR-045")
def test_of_two_updates_the_last_one_wins(ctx, containers):
    """Rejects: an update that is refused because the record has changed since it was read."""
    containers.create(ctx, whole("c1"))
    first, second = containers.get(ctx, "c1"), containers.get(ctx, "c1")

    containers.update(ctx, replace(first, image="first"))
    containers.update(ctx, replace(second, image="second"))

    assert containers.get(ctx, "c1").image == "second"


# ---------------------------------------------------------------------------------------------------------- removal


@clause("CTR-030")
def test_a_deleted_container_is_gone_and_its_id_is_free(ctx, containers, namespaces, new_namespace):
    """Rejects: success for unknown ids, a record that stays in the list, or a namespace that comes about."""
    containers.create(ctx, whole("v5"))
    containers.create(ctx, record("stays"))

    containers.delete(ctx, "v5")

    assert not exists(containers, ctx, "v5")
    assert ids(containers, ctx) == ["stays"]
    with pytest.raises(NotFound):
        containers.delete(ctx, "v5")
    made = containers.create(ctx, record("v5"))
    assert containers.get(ctx, "v5") == made, "nothing of the first life is left"

    never = new_namespace(lease=False)
    with pytest.raises(NotFound):
        containers.delete(never, "x")
    assert not listed(namespaces, never.namespace)


@clause("CTR-031")
def test_a_deletion_without_an_id_removes_nothing(ctx, containers):
    """Rejects: an empty id that stands for the first container, or for all."""
    containers.create(ctx, record("a"))
    containers.create(ctx, record("b"))

    with pytest.raises((NotFound, InvalidArgument)):
        containers.delete(ctx, "")
    assert ids(containers, ctx) == ["a", "b"]

    for id in ("a", "b"):
        containers.delete(ctx, id)
    # The real daemons have an odd answer here.
    with pytest.raises((NotFound, InvalidArgument, Unknown)):
        containers.delete(ctx, "")


# ----------------------------------------------------------------------------------------------------------- events


@clause("CTR-033")
def test_a_creation_is_told_once(ctx, containers, listen):
    """Rejects: a runtime that is left out, another namespace or type, or a second event."""
    told = listen()

    containers.create(ctx, whole("c1", runtime=replace(RUNTIME, options=RUNC_OPTIONS)))
    containers.create(ctx, record("c2"))

    heard = told()
    assert [(h.namespace, h.topic) for h in heard] == [(ctx.namespace, "/containers/create")] * 2
    assert all(isinstance(h.message, ContainerCreate) for h in heard), heard
    assert [(h.message.id, h.message.image, h.message.runtime.name) for h in heard] == [
        ("c1", "img1", RUNTIME.name),
        ("c2", "", RUNTIME.name),
    ]
    options = heard[0].message.runtime.options
    assert (options.type_url, options.value) == (RUNC_OPTIONS.type_url, RUNC_OPTIONS.value)
    assert not heard[1].message.runtime.HasField("options")


@clause("CTR-034")
def test_an_update_is_told_with_the_values_after_it(ctx, containers, listen):
    """Rejects: the labels of the request on an update with mask, fields left out, or an event for a refusal."""
    containers.create(ctx, whole("c1"))
    told = listen()

    containers.update(ctx, whole("c1", **FULL))
    containers.update(ctx, Container("c1", labels={"x": "1", "ignored": "1"}, image="ignored"), ["labels.x"])
    with pytest.raises(InvalidArgument):
        containers.update(ctx, whole("c1"), ["bogus"])
    with pytest.raises(NotFound):
        containers.update(ctx, whole("nope"))

    heard = told()
    assert [(h.namespace, h.topic) for h in heard] == [(ctx.namespace, "/containers/update")] * 2
    assert all(isinstance(h.message, ContainerUpdate) for h in heard)
    assert [(h.message.id, h.message.image, dict(h.message.labels), h.message.snapshot_key) for h in heard] == [
        ("c1", "img2", {"b": "2"}, "k/2"),
        ("c1", "img2", {"b": "2", "x": "1"}, "k/2"),
    ]


@clause("CTR-035")
def test_a_deletion_is_told_once_and_a_failed_one_never(ctx, containers, listen):
    """Rejects: an event that is sent before anybody knows whether the container exists."""
    containers.create(ctx, record("v5"))
    told = listen()

    containers.delete(ctx, "v5")
    with pytest.raises(NotFound):
        containers.delete(ctx, "v5")
    with pytest.raises(ContainerdError):
        containers.delete(ctx, "")

    heard = told()
    assert [(h.namespace, h.topic) for h in heard] == [(ctx.namespace, "/containers/delete")]
    assert isinstance(heard[0].message, ContainerDelete)
    assert heard[0].message.id == "v5"


# ------------------------------------------------------------------------------- namespaces, time, threads, collections


@clause("CTR-036")
def test_equal_ids_in_two_namespaces_are_two_containers(ctx, containers, new_namespace):
    """Rejects: one table of ids for everybody, or calls that reach into another namespace."""
    other = new_namespace()
    mine, theirs = containers.create(ctx, record("c1")), containers.create(other, record("c1", image="theirs"))
    alone = containers.create(ctx, record("v5"))

    assert containers.list(other) == [theirs]
    with pytest.raises(NotFound):
        containers.get(other, "v5")
    with pytest.raises(NotFound):
        containers.update(other, record("v5", image="changed"))
    with pytest.raises(NotFound):
        containers.delete(other, "v5")
    assert containers.list(ctx) == [mine, alone]

    containers.delete(other, "c1")
    assert containers.list(ctx) == [mine, alone]
    assert containers.list(other) == []


@clause("CTR-037", needs=("restart",))
def test_records_survive_a_restart_unchanged(own):
    """Rejects: fields that live in memory, or times that are rounded when they are stored."""
    instance, ctx = own(), CallContext(namespace="conform-persist")
    instance.containers.create(ctx, whole("c1", runtime=replace(RUNTIME, options=RUNC_OPTIONS)))
    instance.containers.create(ctx, record("c2", spec=TypedAny("odd", b"\xff\x00")))
    instance.containers.update(ctx, Container("c2", labels={"later": "1"}), ["labels.later"])
    before = instance.containers.list(ctx)

    instance.restart()

    assert instance.containers.list(ctx) == before


@clause("CTR-037", needs=("restart", "kill"))
def test_what_was_acknowledged_survives_a_kill(own):
    """Rejects: answers before the record is on the disk."""
    instance, ctx = own(), CallContext(namespace="conform-killed")
    made = instance.containers.create(ctx, whole("afterkill"))

    instance.restart(kill=True)

    assert instance.containers.get(ctx, "afterkill") == made


def _together(count, act):
    """The outcomes of ``act(0)``, ``act(1)``, ... at the same time: answers, and the kinds of errors."""

    def attempt(number):
        try:
            return act(number)
        except ContainerdError as error:
            return type(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(attempt, range(count)))


@clause("CTR-038")
def test_of_creations_at_the_same_time_one_succeeds(ctx, containers, listen):
    """Rejects: looking whether the id is free in one step and inserting in another."""
    told = listen()

    outcomes = _together(16, lambda n: containers.create(ctx, record("raced", image=str(n))))

    made = [outcome for outcome in outcomes if isinstance(outcome, Container)]
    assert len(made) == 1
    assert outcomes.count(AlreadyExists) == 15
    assert containers.list(ctx) == made
    assert [(h.topic, h.message.id) for h in told()] == [("/containers/create", "raced")]


@clause("CTR-038")
def test_of_deletions_at_the_same_time_one_succeeds(ctx, containers, listen):
    """Rejects: two deletions that both find the record."""
    containers.create(ctx, record("raced"))
    told = listen()

    outcomes = _together(8, lambda _: containers.delete(ctx, "raced"))

    assert (outcomes.count(None), outcomes.count(NotFound)) == (1, 7)
    assert [h.topic for h in told()] == ["/containers/delete"]


@clause("CTR-038")
def test_updates_of_different_labels_at_the_same_time_all_count(ctx, containers):
    """Rejects: an update that writes back labels which it read before another one."""
    containers.create(ctx, record("shared"))

    _together(16, lambda n: containers.update(ctx, Container("shared", labels={f"l{n}": "1"}), [f"labels.l{n}"]))

    assert containers.get(ctx, "shared").labels == {f"l{n}": "1" for n in range(16)}


@clause("CTR-039")
def test_a_container_keeps_its_snapshot_and_what_its_labels_name(
    ctx, unleased, containers, content, leases, snapshotter, subject, collect
):
    """Rejects: snapshots that live only while a task runs, parents that go, or labels that keep nothing."""
    snapshotter_id = subject.snapshotters[0]
    snapshotter.prepare(ctx, "base-key", "")
    snapshotter.commit(ctx, "base", "base-key")
    snapshotter.prepare(ctx, "cs", "base")
    snapshotter.prepare(ctx, "cs2", "")
    kept, dropped = store(content, ctx, fresh()), store(content, ctx, fresh())
    labels = {"containerd.io/gc.ref.content": kept}
    containers.create(unleased, record("gc1", snapshotter=snapshotter_id, snapshot_key="cs", labels=labels))

    leases.delete(unleased, ctx.lease, sync=True)

    assert {info.name for info in snapshotter.walk(unleased)} == {"base", "cs"}
    assert (has(content, unleased, kept), has(content, unleased, dropped)) == (True, False)
    collect(unleased)
    assert {info.name for info in snapshotter.walk(unleased)} == {"base", "cs"}

    containers.delete(unleased, "gc1")

    assert eventually(lambda: not list(snapshotter.walk(unleased)) and not has(content, unleased, kept)), (
        "what only the container held is collected soon after its deletion"
    )


@clause("CTR-040")
def test_a_container_is_never_collected(ctx, containers, collect):
    """Rejects: a collector that honours an expiry on containers, or takes those that hold nothing."""
    made = [
        containers.create(ctx, record("never", labels={"containerd.io/gc.expire": "2001-01-01T00:00:00Z"})),
        containers.create(ctx, record("plain")),
    ]

    collect(ctx)

    assert containers.list(ctx) == made


@clause("CTR-041")
def test_a_lease_has_nothing_to_do_with_containers(ctx, containers, leases):
    """Rejects: not found for a lease that does not exist, or containers among the resources of one."""
    strange = ctx.with_lease("nolease")
    containers.create(strange, record("cc"))
    containers.update(strange, Container("cc", image="i"), ["image"])
    assert (containers.get(strange, "cc").image, ids(containers, strange)) == ("i", ["cc"])
    containers.delete(strange, "cc")

    containers.create(ctx, whole("held"))
    assert leases.list_resources(ctx, ctx.lease) == []


@clause("CTR-042")
def test_a_sandbox_id_is_kept_for_good_or_not_at_all(ctx, containers):
    """Rejects: an update that changes the sandbox, or a sandbox that has to exist."""
    made = containers.create(ctx, record("c", sandbox_id="sb1"))

    assert made.sandbox_id in ("sb1", ""), "2.x keeps what was sent, 1.6 does not know the field"
    kept = made.sandbox_id
    assert containers.get(ctx, "c").sandbox_id == kept
    assert [container.sandbox_id for container in containers.list(ctx)] == [kept]
    assert ids(containers, ctx, "sandbox==sb1") == []

    assert containers.update(ctx, record("c", sandbox_id="other")).sandbox_id == kept
    assert containers.get(ctx, "c").sandbox_id == kept
    for path in ("sandbox", "sandboxid"):
        with pytest.raises(InvalidArgument):
            containers.update(ctx, record("c", sandbox_id="other"), [path])
    assert containers.get(ctx, "c").sandbox_id == kept


@clause("CTR-044")
def test_the_first_container_brings_its_namespace_into_being(containers, namespaces, new_namespace):
    """Rejects: a demand that namespaces be declared, or a namespace that a failed creation leaves behind."""
    fresh_one = new_namespace(lease=False)

    for refused in (record("-c"), record("c", spec=None, runtime=RuntimeInfo("")), record("c", labels={"": "v"})):
        with pytest.raises(ContainerdError):
            containers.create(fresh_one, refused)
        assert not listed(namespaces, fresh_one.namespace), refused

    containers.create(fresh_one, record("c"))

    assert [n.labels for n in namespaces.list(fresh_one) if n.name == fresh_one.namespace] == [{}]
