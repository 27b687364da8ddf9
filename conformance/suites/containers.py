"""Containers: what a record keeps, what it must look like, and how records are found (CTR-001 to CTR-017, CTR-043).

Changes, removal, events, namespaces and collections are in ``containers_changes``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from conformance import clause
from conformance.suites._containers import (
    RUNC_OPTIONS,
    RUNTIME,
    SERVICE,
    SPEC,
    exists,
    ids,
    listen,
    message,
    record,
    whole,
)
from conformance.wire import Wire
from refimpl.api import containers_v1_pb2 as pb
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unknown,
)
from refimpl.contract.images import Image
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor, TypedAny

MIB = 1 << 20

BAD_IDS = ["", "-a", "a-", "a__b", "a--b", "a.-b", "a/b", "../x", ".", "..", "a b", " a", "a\n", "\u00e4", "x" * 77]
GOOD_IDS = ["0", "A1.b_c-d", "version", "labels", "v1", "x" * 76]


# --------------------------------------------------------------------------------------------------- create and get


@clause("CTR-001")
def test_create_stores_the_whole_record_and_answers_with_it(ctx, containers):
    """Rejects: fields that get lost, empty labels that are kept, or an answer that echoes the request."""
    wanted = whole("c1", labels={"a": "1", "e": ""}, runtime=replace(RUNTIME, options=RUNC_OPTIONS))

    made = containers.create(ctx, wanted)

    assert made == replace(wanted, labels={"a": "1"}, created_at=made.created_at, updated_at=made.updated_at)
    assert containers.get(ctx, "c1") == made


@clause("CTR-002")
def test_both_times_of_a_new_record_are_the_servers_and_equal(ctx, containers):
    """Rejects: times that the caller chose, or two readings of the clock."""
    before = time.time_ns()
    made = containers.create(ctx, record("timed", created_at=5 * SECOND, updated_at=6 * SECOND))
    after = time.time_ns()

    assert made.created_at == made.updated_at
    # Go's clock and ours tick alike, but a daemon may read a coarser one.
    assert before - SECOND // 10 <= made.created_at <= after + SECOND // 10


@clause("CTR-002")
def test_an_update_moves_the_second_time_and_never_the_first(ctx, containers):
    """Rejects: an update that leaves updated_at, takes it from the request, or makes the record young again."""
    made = containers.create(ctx, record("timed"))

    wanted = record("timed", image="new", created_at=5 * SECOND, updated_at=6 * SECOND)
    masked = containers.update(ctx, wanted, ["image"])
    full = containers.update(ctx, wanted)

    assert made.created_at == masked.created_at == full.created_at
    assert made.updated_at < masked.updated_at < full.updated_at
    assert containers.get(ctx, "timed") == full


@clause("CTR-002", needs=("wire",))
def test_times_have_nanoseconds_and_lie_in_a_valid_range(ctx, wire):
    """Rejects: times of the request, or nanoseconds outside one second."""
    sent = message(record("timed"))
    sent.created_at.CopyFrom(Timestamp(seconds=5))
    sent.updated_at.CopyFrom(Timestamp(seconds=6))
    before = time.time()

    answer = wire.call(f"{SERVICE}/Create", pb.CreateContainerRequest(container=sent), namespace=ctx.namespace)

    assert answer.ok, answer
    made = answer.messages[0].container
    assert made.created_at == made.updated_at
    assert before - 1 <= made.created_at.seconds <= time.time() + 1
    assert 0 <= made.created_at.nanos < SECOND


@clause("CTR-003")
def test_an_id_that_is_taken_cannot_be_created_again(ctx, containers, listen):
    """Rejects: a second create that replaces the record, touches its times, or is told as an event."""
    made = containers.create(ctx, whole("c1"))
    told = listen()

    with pytest.raises(AlreadyExists):
        containers.create(ctx, whole("c1", image="other"))

    assert containers.get(ctx, "c1") == made, "a refused call changes nothing"
    assert told() == [], "what did not happen is not told"


@clause("CTR-004")
@pytest.mark.parametrize("id", BAD_IDS, ids=repr)
def test_what_is_no_identifier_is_no_id(ctx, containers, id):
    """Rejects: ids that mean something as a path, doubled or outer separators, 77 bytes, a trailing newline."""
    with pytest.raises(InvalidArgument):
        containers.create(ctx, record(id))

    assert containers.list(ctx) == []


@clause("CTR-004")
def test_every_identifier_is_an_id_also_the_words_of_the_database(ctx, containers):
    """Rejects: reserved words, a limit below 76 bytes, or ids that need a letter."""
    for id in GOOD_IDS:
        assert containers.create(ctx, record(id)).id == id

    assert ids(containers, ctx) == sorted(GOOD_IDS)
    assert [containers.get(ctx, id).id for id in GOOD_IDS] == GOOD_IDS


@clause("CTR-005")
def test_a_record_without_a_runtime_name_is_refused(ctx, containers):
    """Rejects: a default runtime."""
    with pytest.raises(InvalidArgument):
        containers.create(ctx, record("c", runtime=RuntimeInfo("")))
    with pytest.raises(InvalidArgument):
        containers.create(ctx, record("c", runtime=RuntimeInfo("", RUNC_OPTIONS)))

    assert not exists(containers, ctx, "c")


@clause("CTR-005")
def test_any_runtime_name_is_accepted(ctx, containers):
    """Rejects: a store that looks the runtime up, or takes its name for a path."""
    made = containers.create(ctx, record("c", runtime=RuntimeInfo("bogus runtime/../x")))

    assert made.runtime == containers.get(ctx, "c").runtime == RuntimeInfo("bogus runtime/../x")


@clause("CTR-005", needs=("wire",))
def test_a_request_without_a_runtime_message_is_refused(ctx, wire):
    """Rejects: an absent sub-message that counts as a runtime."""
    sent = message(record("c"))
    sent.ClearField("runtime")

    answer = wire.call(f"{SERVICE}/Create", pb.CreateContainerRequest(container=sent), namespace=ctx.namespace)

    assert answer.code == "INVALID_ARGUMENT", answer


@clause("CTR-006")
def test_a_record_without_a_spec_is_refused_or_stays_without_one(ctx, containers):
    """Rejects: a spec that nobody sent."""
    try:
        containers.create(ctx, record("specless", spec=None))
    except InvalidArgument:
        assert not exists(containers, ctx, "specless"), "refused, and stored all the same"
    else:
        # What 2.x does.
        assert containers.get(ctx, "specless").spec is None


@clause("CTR-007")
@pytest.mark.parametrize(
    "value",
    [
        TypedAny("whatever", b"\xff\x00"),
        TypedAny(SPEC.type_url, b"no json\x00\xff"),
        TypedAny(SPEC.type_url, b'{ "b" : 1,\n "a": 1 }'),
        TypedAny("", b"untyped"),
        TypedAny("typed/only", b""),
        TypedAny(),
    ],
    ids=["unknown type", "not what its type says", "unusual form", "no type", "no value", "empty"],
)
def test_typed_values_are_kept_byte_for_byte(ctx, containers, value):
    """Rejects: parsing and writing anew, a demand for known types, or an empty value that counts as absent."""
    wanted = record("opaque", spec=value, runtime=replace(RUNTIME, options=value), extensions={"e": value})

    made = containers.create(ctx, wanted)
    got = containers.get(ctx, "opaque")

    assert (made.spec, made.runtime.options, made.extensions) == (value, value, {"e": value})
    assert (got.spec, got.runtime.options, got.extensions) == (value, value, {"e": value})


@clause("CTR-007")
def test_options_that_were_not_sent_are_absent(ctx, containers):
    """Rejects: an empty value in the place of none."""
    made = containers.create(ctx, record("plain"))

    assert made.runtime.options is None
    assert containers.get(ctx, "plain").runtime.options is None


@clause("CTR-008")
def test_a_snapshot_key_needs_a_snapshotter(ctx, containers):
    """Rejects: a default snapshotter for a key that comes alone, on either way to a key."""
    with pytest.raises(InvalidArgument):
        containers.create(ctx, record("c", snapshot_key="k"))
    assert not exists(containers, ctx, "c")

    made = containers.create(ctx, record("c"))
    with pytest.raises(InvalidArgument):
        containers.update(ctx, Container("c", snapshot_key="k"), ["snapshotkey"])
    with pytest.raises(InvalidArgument):
        containers.update(ctx, record("c", snapshot_key="k"))
    assert containers.get(ctx, "c") == made


@clause("CTR-008")
def test_neither_snapshotter_nor_snapshot_has_to_exist(ctx, containers, unique):
    """Rejects: a store that looks for the snapshot, or wants a key for each snapshotter."""
    key = unique("nosuch")
    for wanted in (
        record("alone", snapshotter="overlayfs"),
        record("nobody", snapshotter="nosuch", snapshot_key="zz"),
        record("nothing", snapshotter="overlayfs", snapshot_key=key),
    ):
        containers.create(ctx, wanted)
        got = containers.get(ctx, wanted.id)
        assert (got.snapshotter, got.snapshot_key) == (wanted.snapshotter, wanted.snapshot_key)


@clause("CTR-009")
@pytest.mark.parametrize("image", ["img1", "", "docker.io/library/busybox:latest", "no image/../\u00e4"], ids=repr)
def test_the_image_field_is_any_text(ctx, containers, image):
    """Rejects: a store that resolves, normalises or demands the image."""
    made = containers.create(ctx, record("c", image=image))

    assert made.image == containers.get(ctx, "c").image == image


@clause("CTR-009")
def test_a_container_does_not_hold_its_image(ctx, containers, images, unique):
    """Rejects: an image record that cannot go, or goes with side effects, while a container names it."""
    name = unique("img")
    blob = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{os.urandom(32).hex()}", 1)
    images.create(ctx, Image(name, blob))
    made = containers.create(ctx, record("c", image=name))

    images.delete(ctx, name)

    with pytest.raises(NotFound):
        images.get(ctx, name)
    assert containers.get(ctx, "c") == made


@clause("CTR-010")
def test_a_label_has_at_most_4096_bytes(ctx, containers):
    """Rejects: a limit for the value alone, counting characters, or a record without the label that was too long."""
    containers.create(ctx, record("fits", labels={"k": "v" * 4095}))
    assert containers.get(ctx, "fits").labels == {"k": "v" * 4095}

    for labels in ({"k": "v" * 4096}, {"k" * 4096: "v"}, {"k": "\u00e4" * 2048}, {"good": "1", "k": "v" * 4096}):
        with pytest.raises(InvalidArgument):
            containers.create(ctx, record("long", labels=labels))
        assert not exists(containers, ctx, "long")

    for paths in (["labels.k"], ["labels"], []):
        with pytest.raises(InvalidArgument):
            containers.update(ctx, record("fits", labels={"k": "w" * 4096}), paths)
    assert containers.get(ctx, "fits").labels == {"k": "v" * 4095}


@clause("CTR-010")
def test_a_label_without_a_key_cannot_be_stored(ctx, containers):
    """Rejects: a container that stays half written when one of its labels cannot be stored."""
    with pytest.raises((Unknown, InvalidArgument)):
        containers.create(ctx, record("nameless", labels={"a": "1", "": "v", "z": "1"}))

    assert not exists(containers, ctx, "nameless")
    assert containers.list(ctx) == []

    containers.create(ctx, record("ignored", labels={"": ""}))
    assert containers.get(ctx, "ignored").labels == {}


@clause("CTR-011")
def test_an_extension_needs_a_key(ctx, containers):
    """Rejects: an entry that is dropped silently, or a key that is made up."""
    with pytest.raises(InvalidArgument):
        containers.create(ctx, record("c", extensions={"": TypedAny("a", b"")}))
    assert not exists(containers, ctx, "c")

    made = containers.create(ctx, record("c", extensions={"ext.a": TypedAny("t/x", b"\x01")}))
    assert containers.get(ctx, "c").extensions == {"ext.a": TypedAny("t/x", b"\x01")}, "other keys are free"

    nameless = {"": TypedAny("a", b"")}
    for wanted, paths in (
        (Container("c"), ["extensions."]),
        (Container("c", extensions=nameless), ["extensions."]),
        (Container("c", extensions=nameless), ["extensions"]),
        (record("c", extensions=nameless), []),
    ):
        with pytest.raises(InvalidArgument):
            containers.update(ctx, wanted, paths)
    assert containers.get(ctx, "c") == made


@clause("CTR-012")
def test_what_the_namespace_does_not_have_is_not_found(ctx, containers, new_namespace):
    """Rejects: an empty container with success, records of other namespaces, or a message that names nothing."""
    other = new_namespace(lease=False)
    containers.create(ctx, record("here"))

    for where, id in ((other, "nope"), (other, "here"), (ctx, "nope"), (ctx, "")):
        with pytest.raises(NotFound) as caught:
            containers.get(where, id)
        assert id in str(caught.value)
        assert where.namespace in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- list


@clause("CTR-013")
def test_the_list_is_complete_and_in_byte_order(ctx, containers):
    """Rejects: the order of creation, numeric or case-insensitive order, or records without their specs."""
    made = {id: containers.create(ctx, whole(id)) for id in ("Z", "a", "A", "10", "9", "a.b", "a-b")}

    assert containers.list(ctx) == [made[id] for id in ("10", "9", "A", "Z", "a", "a-b", "a.b")]


@clause("CTR-013")
def test_a_namespace_without_containers_has_an_empty_list(ctx, containers, new_namespace):
    """Rejects: not found for a namespace that was never used, or whose last container went."""
    assert containers.list(new_namespace(lease=False)) == []
    assert containers.list(ctx) == []
    containers.create(ctx, record("gone"))
    containers.delete(ctx, "gone")
    assert containers.list(ctx) == []


FILTERS: list[tuple[list[str], list[str]]] = [
    (["id==f1"], ["f1"]),
    (["id~=/f[12]/"], ["f1", "f2"]),
    (["id!=f1"], ["f2", "f3"]),
    (["image"], ["f1", "f2"]),
    (["image==docker.io/a"], ["f1"]),
    (["image!=docker.io/a"], ["f2", "f3"]),
    (["labels.env"], ["f1", "f2"]),
    (["labels.env==prod"], ["f1"]),
    (['labels."a.b"==c'], ["f1"]),
    (["labels.a.b==c"], ["f1"]),
    (["runtime.name"], ["f1", "f2", "f3"]),
    (["runtime.name==io.other"], ["f2"]),
    (["runtime"], []),
    (["runtime==io.other"], []),
    (["runtime.options"], []),
    (["snapshotter"], []),
    (["snapshotter==overlayfs"], []),
    (["snapshotter!=x"], ["f1", "f2", "f3"]),
    (["labels"], []),
    (["sandbox"], []),
    (["sandbox==sb1"], []),
    (["extensions"], []),
    (["extensions.e"], []),
    (["nosuch"], []),
    (["nosuch==x"], []),
    (["nosuch!=x"], ["f1", "f2", "f3"]),
]
"""Filters, and what they find in ``_filtered``."""

COMBINED: list[tuple[list[str], list[str]]] = [
    (["id==f1", "id==f3"], ["f1", "f3"]),
    (["id==f1,image==docker.io/b"], []),
    (["id==f1,image==docker.io/a"], ["f1"]),
    (["id~=f,labels.env!=prod"], ["f2", "f3"]),
    ([], ["f1", "f2", "f3"]),
    ([""], ["f1", "f2", "f3"]),
    (["id==f1", ""], ["f1", "f2", "f3"]),
    (["id~=["], []),
    (["id~=("], []),
    (["id~=(", "id==f2"], ["f2"]),
    (['id=="f1"'], ["f1"]),
]

BAD_FILTERS: list[list[str]] = [
    ["id=f1"],
    ["id=="],
    ["==x"],
    ["labels.env==prod,"],
    ["bad filter!!"],
    ["id==f1", "bad!!"],
    ["bad!!", "id==f1"],
]


def _filtered(containers, ctx):
    """Three containers that differ in everything a filter might ask for."""
    containers.create(
        ctx,
        record(
            "f1",
            image="docker.io/a",
            labels={"env": "prod", "a.b": "c"},
            snapshotter="overlayfs",
            runtime=replace(RUNTIME, options=RUNC_OPTIONS),
            extensions={"e": TypedAny("t", b"")},
            sandbox_id="sb1",
        ),
    )
    containers.create(ctx, record("f2", image="docker.io/b", labels={"env": "dev"}, runtime=RuntimeInfo("io.other")))
    containers.create(ctx, record("f3"))


@clause("CTR-016")
def test_filters_see_id_image_runtime_name_and_labels_and_nothing_else(ctx, containers):
    """Rejects: a filter that knows only ids, absent fields that equal something, or further fields."""
    _filtered(containers, ctx)

    assert [(filters, ids(containers, ctx, *filters)) for filters, _ in FILTERS] == FILTERS


@clause("CTR-017")
def test_filters_are_alternatives_and_commas_join_conditions(ctx, containers):
    """Rejects: filters that all have to hold, or a bad regular expression that is an error."""
    _filtered(containers, ctx)

    assert [(filters, ids(containers, ctx, *filters)) for filters, _ in COMBINED] == COMBINED


@clause("CTR-017")
@pytest.mark.parametrize("filters", BAD_FILTERS, ids=" | ".join)
def test_one_filter_that_does_not_parse_fails_the_list(ctx, containers, filters):
    """Rejects: a bad filter that is skipped, because another one is good or because nothing is there to filter."""
    with pytest.raises(InvalidArgument):
        containers.list(ctx, filters)

    _filtered(containers, ctx)
    with pytest.raises(InvalidArgument):
        containers.list(ctx, filters)


@clause("CTR-014", needs=("wire",))
def test_the_stream_has_the_containers_of_the_list_one_by_one(ctx, containers, wire):
    """Rejects: everything in one message, filters that are ignored, another order, or thinner records."""
    _filtered(containers, ctx)
    for id in ("Z", "10", "9", "a"):
        containers.create(ctx, whole(id))

    def ask(method, filters):
        return wire.call(f"{SERVICE}/{method}", pb.ListContainersRequest(filters=filters), namespace=ctx.namespace)

    for filters in [filters for filters, _ in FILTERS + COMBINED] + BAD_FILTERS:
        stream, list_ = ask("ListStream", filters), ask("List", filters)
        assert (stream.code, stream.message) == (list_.code, list_.message), filters
        expected = list(list_.messages[0].containers) if list_.ok else []
        assert [answer.container for answer in stream.messages] == expected, filters


@clause("CTR-014", needs=("wire",))
def test_the_stream_of_an_empty_namespace_ends_without_a_message(ctx, new_namespace, wire):
    """Rejects: an empty message where nothing is, or a namespace error that only the list has."""

    def ask(namespace):
        return wire.call(f"{SERVICE}/ListStream", pb.ListContainersRequest(), namespace=namespace)

    for where in (ctx, new_namespace(lease=False)):
        answer = ask(where.namespace)
        assert (answer.code, list(answer.messages)) == ("OK", [])
    assert ask(None).code == "FAILED_PRECONDITION"
    assert ask("bad/ns").code == "INVALID_ARGUMENT"


@clause("CTR-015", needs=("wire",))
def test_a_message_has_at_most_16_mib_and_the_stream_has_no_limit(ctx, wire):
    """Rejects: specs that are cut, a lower limit, or a stream that fails where only the list is too long."""

    def call(method, request):
        return wire.call(f"{SERVICE}/{method}", request, namespace=ctx.namespace)

    def create(id, size):
        sent = message(record(id, spec=TypedAny("big", bytes(size))))
        return call("Create", pb.CreateContainerRequest(container=sent))

    try:
        assert create("big", 15 * MIB).ok
        # Counted: the report of two values of 15 MiB that differ would be no help to anybody.
        assert call("Get", pb.GetContainerRequest(id="big")).messages[0].container.spec.value.count(0) == 15 * MIB
        assert create("bigger", 17 * MIB).code == "RESOURCE_EXHAUSTED"
        assert call("Get", pb.GetContainerRequest(id="bigger")).code == "NOT_FOUND"

        assert create("more", 4 * MIB).ok
        assert call("List", pb.ListContainersRequest()).code == "RESOURCE_EXHAUSTED"
        stream = call("ListStream", pb.ListContainersRequest())
        assert stream.ok, stream.message
        assert [(m.container.id, len(m.container.spec.value)) for m in stream.messages] == [
            ("big", 15 * MIB),
            ("more", 4 * MIB),
        ]
    finally:
        # The clean-up lists what is there, and this is more than a list holds.
        for id in ("big", "bigger", "more"):
            call("Delete", pb.DeleteContainerRequest(id=id))


# -------------------------------------------------------------------------------------------------------- raw calls


@clause("CTR-043", needs=("wire", "config"))
@pytest.mark.parametrize(
    "method, request_type", [("Create", pb.CreateContainerRequest), ("Update", pb.UpdateContainerRequest)]
)
def test_a_request_without_a_container_is_refused_and_harms_nobody(own, method, request_type):
    """Rejects: an absent sub-message that takes the daemon down."""
    # A daemon of our own: some releases die of this.
    instance = own()
    wire = Wire(instance.address)
    try:
        answer = wire.call(f"{SERVICE}/{method}", request_type(), namespace="conform-empty")
        assert answer.code == "INVALID_ARGUMENT", answer
        assert instance.alive() == ""
        assert wire.call(f"{SERVICE}/List", pb.ListContainersRequest(), namespace="conform-empty").ok
    finally:
        wire.close()
