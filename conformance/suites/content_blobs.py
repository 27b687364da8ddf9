"""Content, the blobs: records, labels, lists, filters, reads and deletions in a namespace (CNT-051 to CNT-075)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from conformance import clause
from conformance.suites._content import (
    ROOTED,
    SERVICE,
    call,  # a fixture
    digest_of,
    eventually,
    fresh,
    has,
    read,
    reading,
    stat,
    store,
)
from conformance.wire import Wire
from refimpl.api import content_v1_pb2 as pb
from refimpl.api import event_types_pb2
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor, TypedAny

MIB = 1 << 20

NO_DIGESTS = (
    "",
    "sha256",
    "sha256:",
    "sha256:" + 63 * "a",
    "sha256:" + 64 * "A",
    "md5:" + 32 * "a",
    "../../etc/passwd",
    "sha256:../../../../etc/passwd",
)
"""What must never reach a path."""

ABSENT = ("sha256:" + 64 * "a", "sha384:" + 96 * "a", "sha512:" + 128 * "a")

BY_DIGEST = {
    "info": lambda content, ctx, digest: content.info(ctx, digest),
    "update": lambda content, ctx, digest: content.update(ctx, Info(digest, labels={"a": "b"})),
    "delete": lambda content, ctx, digest: content.delete(ctx, digest),
    "reader": lambda content, ctx, digest: content.reader(ctx, digest),
}
"""The calls that name a blob."""


@clause("CNT-051")
def test_the_record_of_a_blob_is_that_of_its_commit(ctx, content):
    """Rejects: a creation time that is the file's, or not yet there."""
    digest = store(content, ctx, fresh(9), {"a": "1", "b": "2"})

    info = content.info(ctx, digest)

    assert (info.digest, info.size, info.labels) == (digest, 9, {"a": "1", "b": "2"})
    assert info.created_at == info.updated_at
    assert abs(time.time_ns() - info.created_at) < 60 * SECOND


@clause("CNT-051")
def test_each_namespace_has_the_time_of_its_own_commit(ctx, content, new_namespace):
    """Rejects: the time of the file, which another namespace uploaded."""
    data, other = fresh(), new_namespace()
    digest = store(content, ctx, data)
    between = content.info(ctx, store(content, ctx, fresh())).created_at
    store(content, other, data)

    assert content.info(ctx, digest).created_at < between
    assert content.info(other, digest).created_at > between


@clause("CNT-052")
@pytest.mark.parametrize("method", BY_DIGEST)
def test_what_is_no_digest_is_refused(ctx, content, method):
    """Rejects: joining the hex part to a directory unseen."""
    for text in NO_DIGESTS:
        with pytest.raises(InvalidArgument):
            BY_DIGEST[method](content, ctx, text)


@clause("CNT-052")
def test_reading_what_is_no_digest_is_refused(call):
    """Rejects: a Read that trusts that somebody looked at the digest before."""
    for text in NO_DIGESTS:
        answer = call("Read", pb.ReadContentRequest(digest=text))
        assert (answer.code, list(answer.messages)) == ("INVALID_ARGUMENT", []), text


@clause("CNT-053")
@pytest.mark.parametrize("method", BY_DIGEST)
def test_a_digest_that_the_namespace_does_not_hold_is_not_found(ctx, content, method):
    """Rejects: a deletion of nothing that reports success."""
    for digest in ABSENT:
        with pytest.raises(NotFound):
            BY_DIGEST[method](content, ctx, digest)


@clause("CNT-053")
def test_reading_what_the_namespace_does_not_hold_is_not_found(call):
    """Rejects: an empty stream for a blob that is not there."""
    for digest in ABSENT:
        answer = call("Read", pb.ReadContentRequest(digest=digest))
        assert (answer.code, list(answer.messages)) == ("NOT_FOUND", []), digest


@clause("CNT-054")
def test_a_path_of_one_label_changes_that_label_only(ctx, content):
    """Rejects: splitting a path at every dot, or changing what it does not name."""
    digest = store(content, ctx, fresh(), {"a": "1", "b": "2", "containerd.io/x": "y"})

    answer = content.update(ctx, Info(digest, labels={"a": "9", "b": "zzz"}), ["labels.a"])
    assert answer.labels == {"a": "9", "b": "2", "containerd.io/x": "y"}
    content.update(ctx, Info(digest, labels={"containerd.io/x": "q.r"}), ["labels.containerd.io/x"])
    content.update(ctx, Info(digest, labels={"new.one": "n", "no": "no"}), ["labels.new.one"])

    assert content.info(ctx, digest).labels == {"a": "9", "b": "2", "containerd.io/x": "q.r", "new.one": "n"}


@clause("CNT-055")
def test_an_update_of_all_labels_replaces_them(ctx, content):
    """Rejects: an update without a mask that merges."""
    digest = store(content, ctx, fresh(), {"a": "1"})

    for labels, paths in (({"n": "1"}, ["labels"]), ({"m": "1"}, []), ({}, [])):
        assert content.update(ctx, Info(digest, labels=labels), paths).labels == labels
        assert content.info(ctx, digest).labels == labels


@clause("CNT-055")
@pytest.mark.parametrize("mask", [None, FieldMask()], ids=["absent", "empty"])
def test_an_absent_mask_and_an_empty_one_both_mean_all_labels(ctx, content, call, mask):
    """Rejects: an empty list of paths that is taken for "nothing"."""
    digest = store(content, ctx, fresh(), {"a": "1"})

    answer = call("Update", pb.UpdateRequest(info=pb.Info(digest=digest, labels={"m": "1"}), update_mask=mask))

    assert answer.ok
    assert dict(answer.messages[0].info.labels) == {"m": "1"}
    assert content.info(ctx, digest).labels == {"m": "1"}


@clause("CNT-056")
def test_an_empty_value_removes_the_label(ctx, content):
    """Rejects: keeping empty labels, which a filter for presence still finds."""
    digest = store(content, ctx, fresh(), {"a": "1", "b": "2"})

    for labels, paths, expected in (
        ({"b": ""}, ["labels.b"], {"a": "1"}),
        ({}, ["labels.a"], {}),
        ({"n": "1", "e": ""}, ["labels"], {"n": "1"}),
        ({"m": "1", "e": ""}, [], {"m": "1"}),
    ):
        assert content.update(ctx, Info(digest, labels=labels), paths).labels == expected
        assert content.info(ctx, digest).labels == expected
    assert list(content.walk(ctx, ["labels.e"])) == []


@clause("CNT-057")
def test_a_path_that_names_no_label_is_refused_with_all_others(ctx, content):
    """Rejects: applying path by path until the bad one."""
    digest = store(content, ctx, fresh(), {"a": "1"})
    before = content.info(ctx, digest)

    for paths in (["size"], ["digest"], ["labels.z", "size"], ["size", "labels.z"], [""]):
        with pytest.raises(InvalidArgument):
            content.update(ctx, Info(digest, labels={"z": "1"}), paths)
        assert content.info(ctx, digest) == before, paths


@clause("CNT-058")
def test_an_update_moves_its_own_time_and_nothing_else(ctx, content):
    """Rejects: a client that forges size or creation time."""
    digest = store(content, ctx, fresh())
    before = content.info(ctx, digest)

    forged = Info(digest, size=999, created_at=5 * SECOND, updated_at=5 * SECOND, labels={"a": "1"})
    answer = content.update(ctx, forged)

    assert (answer.size, answer.created_at) == (before.size, before.created_at)
    assert answer.updated_at > before.updated_at
    assert answer == content.info(ctx, digest)


@clause("CNT-059")
def test_an_update_keeps_to_the_limits_of_labels(ctx, content):
    """Rejects: a limit on the value alone."""
    digest = store(content, ctx, fresh())

    with pytest.raises(InvalidArgument):
        content.update(ctx, Info(digest, labels={"k": 4096 * "v"}))
    with pytest.raises(ContainerdError):
        content.update(ctx, Info(digest, labels={"": "v"}), ["labels."])
    assert content.info(ctx, digest).labels == {}
    assert content.update(ctx, Info(digest, labels={"k": 4095 * "v"})).labels == {"k": 4095 * "v"}


@clause("CNT-060")
def test_an_update_without_a_record_is_refused_and_the_daemon_lives(own):
    """Rejects: a handler that reads the digest of a missing message. Versions of containerd die of this call."""
    instance = own()
    raw = Wire(instance.address)
    try:
        answer = raw.call(f"{SERVICE}/Update", pb.UpdateRequest(), namespace="conform")
    finally:
        raw.close()

    assert answer.code == "INVALID_ARGUMENT"
    assert instance.content.list_statuses(CallContext(namespace="conform")) == []


@clause("CNT-061")
def test_an_empty_list_is_a_stream_without_messages(call):
    """Rejects: one empty message."""
    answer = call("List", pb.ListContentRequest())
    assert (answer.code, list(answer.messages)) == ("OK", [])


@clause("CNT-061")
def test_a_list_comes_in_blocks_of_100_in_the_order_of_the_digests(ctx, content, call):
    """Rejects: one message for everything, which outgrows what a client accepts."""
    with ThreadPoolExecutor(4) as clients:
        digests = list(clients.map(lambda _: store(content, ctx, fresh()), range(205)))

    answer = call("List", pb.ListContentRequest())

    assert [len(message.info) for message in answer.messages] == [100, 100, 5]
    assert [info.digest for message in answer.messages for info in message.info] == sorted(digests)


@clause("CNT-062")
def test_a_listed_record_is_that_of_the_blob_but_for_its_last_change(ctx, content):
    """Rejects: a list that leaves out the labels as well."""
    for i in range(3):
        store(content, ctx, fresh(), {"n": str(i)})

    listed = list(content.walk(ctx))

    assert len(listed) == 3
    for info in listed:
        assert replace(info, updated_at=0) == replace(content.info(ctx, info.digest), updated_at=0)


@pytest.fixture
def labelled(ctx, content):
    """Four blobs for filters, and a function that says which of them some filters find."""
    labels = [{"app": "x", "n": "1"}, {"app": "y", "n": "2"}, {"k.with.dots/and-slash": "v v"}, {}]
    digests = [store(content, ctx, fresh(), each) for each in labels]

    def found(*filters):
        return sorted(digests.index(info.digest) for info in content.walk(ctx, filters))

    return digests, found


@clause("CNT-063")
def test_filters_are_alternatives_and_their_parts_are_all_needed(labelled):
    """Rejects: several filters that must all hold."""
    _, found = labelled

    assert found("labels.app==x", "labels.n==2") == [0, 1]
    assert found("labels.app==x,labels.n==2") == []
    assert found("labels.app==x,labels.n==1") == [0]
    assert found() == [0, 1, 2, 3]
    assert found("") == [0, 1, 2, 3]
    assert found("labels.app==nobody", "") == [0, 1, 2, 3]


@clause("CNT-064")
def test_filters_know_digest_and_labels(labelled):
    """Rejects: an inequality that skips what lacks the field."""
    digests, found = labelled
    everything = [0, 1, 2, 3]

    for text, expected in {
        f"digest=={digests[1]}": [1],
        f"digest!={digests[1]}": [0, 2, 3],
        "digest~=^sha256:": everything,
        "digest": everything,
        "labels.app": [0, 1],
        "labels.app!=x": [1, 2, 3],
        "labels.app~=[xy]": [0, 1],
        'labels."k.with.dots/and-slash"=="v v"': [2],
        "size==24": [],
        "size": [],
        "labels": [],
        "nosuch==1": [],
        "nosuch!=1": everything,
        "size!=24": everything,
    }.items():
        assert found(text) == expected, text


@clause("CNT-065")
@pytest.mark.parametrize(
    "bad",
    [
        "labels.k.with.dots/and-slash", "labels.", "==", "labels.app=", "labels.app==x,", "labels.app==x labels.n==1",
        "nosuch~=.*", "labels.'app'==x",
    ],
)  # fmt: skip
def test_a_filter_that_does_not_parse_is_refused(ctx, content, bad):
    """Rejects: ignoring it and telling everything."""
    store(content, ctx, fresh(), {"app": "x", "n": "1"})

    with pytest.raises(InvalidArgument):
        list(content.walk(ctx, [bad]))
    with pytest.raises(InvalidArgument):
        list(content.walk(ctx, ["labels.app==x", bad]))


@clause("CNT-065")
def test_odd_filters_that_parse_mean_what_they_say(labelled):
    """Rejects: failing over a regular expression that does not compile, or quotes that no one has."""
    _, found = labelled

    for text, expected in {
        "labels.app ==x": [0],
        "digest~=/^sha256:/": [0, 1, 2, 3],
        "labels.app~=|x|": [0],
        "labels.app=='x'": [],
        "digest~=[": [],
        'digest~="["': [],
    }.items():
        assert found(text) == expected, text


@clause("CNT-066")
def test_a_deleted_blob_is_gone_at_once_whatever_refers_to_it(ctx, content, images, unique):
    """Rejects: refusing to delete what an image or a lease needs."""
    data = fresh()
    digest = store(content, ctx, data, ROOTED)
    image = images.create(ctx, Image(unique("image"), Descriptor("application/octet-stream", digest, len(data))))

    content.delete(ctx, digest)

    for method in BY_DIGEST.values():
        with pytest.raises(NotFound):
            method(content, ctx, digest)
    assert list(content.walk(ctx)) == []
    assert images.get(ctx, image.name).target.digest == digest, "the image's record stays"
    store(content, ctx, data)
    assert read(content, ctx, digest) == data


@clause("CNT-067")
def test_the_bytes_of_a_deleted_blob_go_with_a_collection(ctx, content, subject, collect):
    """Rejects: bytes that stay for ever."""
    digest = store(content, ctx, fresh())
    file = subject.root / "io.containerd.content.v1.content/blobs/sha256" / digest.removeprefix("sha256:")
    assert file.exists()

    content.delete(ctx, digest)
    collect(ctx)

    assert eventually(lambda: not file.exists())


@clause("CNT-067", needs=())
def test_a_deletion_leaves_the_bytes_to_those_who_still_have_them(ctx, content, namespaces, new_namespace):
    """Rejects: unlinking inside the deletion although another namespace holds the blob."""
    data, other = fresh(), new_namespace()
    digest = store(content, ctx, data)
    store(content, other, data)

    content.delete(ctx, digest)

    assert read(content, other, digest) == data


@pytest.fixture
def told(ctx, events, unique):
    """Listens to the content of the check's namespace: ``told()`` gives topic and message of all events so far."""
    subscription = events.subscribe(ctx, [f"namespace=={ctx.namespace}"])

    def so_far() -> list[tuple[str, TypedAny]]:
        end = f"/conform/{unique('end')}"
        events.publish(ctx, end, TypedAny("conform.end", b""))
        seen: list[tuple[str, TypedAny]] = []
        for envelope in subscription:
            if envelope.topic == end:
                return seen
            if envelope.topic.startswith("/content/"):
                assert envelope.namespace == ctx.namespace
                seen.append((envelope.topic, envelope.event))
        raise AssertionError("the subscription ended")

    yield so_far
    subscription.close()


@clause("CNT-068")
def test_a_deletion_is_told_and_a_collection_is_not(unleased, content, collect, told):
    """Rejects: an event before the deletion is known to have worked, or for what the collector takes."""
    first, second = (store(content, unleased, fresh(), ROOTED) for _ in range(2))
    third = store(content, unleased, fresh())

    content.delete(unleased, first)
    content.delete(unleased, second)
    with pytest.raises(NotFound):
        content.delete(unleased, second)
    collect(unleased)
    assert not has(content, unleased, third)

    seen = [(topic, event) for topic, event in told() if topic != "/content/create"]
    assert [topic for topic, _ in seen] == ["/content/delete"] * 2
    assert {event.type_url for _, event in seen} == {"containerd.events.ContentDelete"}
    assert [event_types_pb2.ContentDelete.FromString(event.value).digest for _, event in seen] == [first, second]


@clause("CNT-069")
def test_a_commit_is_told_once_if_it_is_told(ctx, content, told, unique):
    """Rejects: an event without its size, or one for a commit that found its content there."""
    data = fresh(11)
    digest = store(content, ctx, data)
    seen = told()

    writer = content.writer(ctx, unique("ref"))
    try:
        writer.write(data)
        with pytest.raises(ContainerdError):
            writer.commit(ctx)
    finally:
        writer.close()

    assert told() == [], "a commit that ends in AlreadyExists is not told"
    if not seen:
        pytest.skip("1.6 does not tell of commits")
    [(topic, event)] = seen
    assert (topic, event.type_url) == ("/content/create", "containerd.events.ContentCreate")
    # The message has a field for the digest (1) and one for the size (2); 1.6 has no such type to read it with.
    assert event.value == b"\x0a" + bytes([len(digest)]) + digest.encode() + b"\x10" + bytes([len(data)])


@clause("CNT-070")
def test_a_read_comes_in_pieces_of_1_mib_counted_from_the_start_of_the_range(ctx, content, call):
    """Rejects: offsets that are positions in the blob."""
    data = fresh(16) + bytes(3 * MIB + 107)
    digest = store(content, ctx, data)

    whole = call("Read", pb.ReadContentRequest(digest=digest))
    part = call("Read", pb.ReadContentRequest(digest=digest, offset=1000, size=2 * MIB))

    assert [(m.offset, len(m.data)) for m in whole.messages] == [(0, MIB), (MIB, MIB), (2 * MIB, MIB), (3 * MIB, 123)]
    assert b"".join(m.data for m in whole.messages) == data
    assert [(m.offset, len(m.data)) for m in part.messages] == [(0, MIB), (MIB, MIB)]
    assert b"".join(m.data for m in part.messages) == data[1000 : 1000 + 2 * MIB]


@clause("CNT-071")
def test_a_range_is_cut_to_the_blob(ctx, content, call):
    """Rejects: an offset at the very end that is out of range, which breaks readers that resume."""
    data = fresh(40)
    digest, length = store(content, ctx, data), len(data)

    for (offset, size), expected in {
        (0, 0): data,
        (-5, 0): data,
        (0, -1): data,
        (-5, 3): data[:3],
        (5, 3): data[5:8],
        (length - 3, 100): data[-3:],
        (length, 0): b"",
        (length, 5): b"",
        (5, 2**63 - 1): data[5:],
    }.items():
        answer = call("Read", pb.ReadContentRequest(digest=digest, offset=offset, size=size))
        assert (answer.code, b"".join(m.data for m in answer.messages)) == ("OK", expected), (offset, size)
    assert list(call("Read", pb.ReadContentRequest(digest=digest, offset=length)).messages) == []
    assert call("Read", pb.ReadContentRequest(digest=digest, offset=length + 1)).code == "OUT_OF_RANGE"


@clause("CNT-071")
def test_a_reader_gives_no_more_than_the_blob_has(ctx, content):
    """Rejects: the same mistakes in the reader."""
    data = fresh(40)
    reader = content.reader(ctx, store(content, ctx, data))
    try:
        assert reader.size == 40
        assert [reader.read_at(offset, size) for offset, size in ((0, 40), (5, 3), (37, 100), (40, 5))] == [
            data, data[5:8], data[37:], b"",
        ]  # fmt: skip
    finally:
        reader.close()


@clause("CNT-072")
def test_a_read_under_way_survives_the_deletion_of_its_blob(ctx, content, collect, subject, recorder, wire):
    """Rejects: a stream that ends early with short content and no error."""
    data = os.urandom(12 * MIB)
    digest = store(content, ctx, data)

    with reading(subject.address, recorder, ctx, pb.ReadContentRequest(digest=digest)) as stream:
        got = [next(stream).data]
        content.delete(ctx, digest)
        collect(ctx)
        assert not has(content, ctx, digest)
        got += [message.data for message in stream]

    assert digest_of(b"".join(got)) == digest


@clause("CNT-073")
@pytest.mark.parametrize("damaged", [b"!@#$%^&*(", b"short", b"longer than it was"], ids=["altered", "short", "long"])
def test_a_damaged_file_is_refused_or_yields_no_more_than_its_size(ctx, content, subject, recorder, wire, damaged):
    """Rejects: a file that has grown and is told whole."""
    digest = store(content, ctx, fresh(9))
    file = subject.root / "io.containerd.content.v1.content/blobs/sha256" / digest.removeprefix("sha256:")
    file.chmod(0o644)
    file.write_bytes(damaged)

    assert content.info(ctx, digest).size == 9
    try:
        with reading(subject.address, recorder, ctx, pb.ReadContentRequest(digest=digest)) as stream:
            got = b"".join(message.data for message in stream)
    except grpc.RpcError:
        return
    assert got == damaged[:9]


NINE = {
    "Info": pb.InfoRequest(digest=ABSENT[0]),
    "Update": pb.UpdateRequest(info=pb.Info(digest=ABSENT[0])),
    "List": pb.ListContentRequest(),
    "Delete": pb.DeleteContentRequest(digest=ABSENT[0]),
    "Read": pb.ReadContentRequest(digest=ABSENT[0]),
    "Status": pb.StatusRequest(ref="ref"),
    "ListStatuses": pb.ListStatusesRequest(),
    "Write": stat("conform-no-namespace"),
    "Abort": pb.AbortRequest(ref="ref"),
}
"""A request for every method."""


@clause("CNT-074")
@pytest.mark.parametrize("method", NINE)
def test_a_call_without_a_namespace_is_refused(wire, method):
    """Rejects: a missing header that silently means "default"."""
    for namespace in (None, ""):
        assert wire.call(f"{SERVICE}/{method}", NINE[method], namespace=namespace).code == "FAILED_PRECONDITION"
    for namespace in ("a b", "../x", "-a", 77 * "a"):
        assert wire.call(f"{SERVICE}/{method}", NINE[method], namespace=namespace).code == "INVALID_ARGUMENT", namespace


@clause("CNT-074")
def test_reading_needs_no_namespace_that_exists(content):
    """Rejects: a namespace that has to be made before anything can be asked."""
    for namespace in (76 * "a", "a_b.c-d", "CONFORM-UPPER"):
        assert list(content.walk(CallContext(namespace=namespace))) == []


@clause("CNT-074")
def test_the_first_commit_makes_the_namespace(unleased, content, namespaces, new_namespace):
    """Rejects: a write that wants a namespace made before."""
    ctx = new_namespace(lease=False)
    data = fresh()
    assert ctx.namespace not in [namespace.name for namespace in namespaces.list(ctx)]

    store(content, ctx, data, ROOTED)

    assert ctx.namespace in [namespace.name for namespace in namespaces.list(ctx)]
    assert read(content, ctx, digest_of(data)) == data


@clause("CNT-075")
def test_a_blob_belongs_to_one_namespace(ctx, content, new_namespace):
    """Rejects: labels that live with the shared file."""
    data, other = fresh(), new_namespace()
    digest = store(content, ctx, data, {"k": "a"})

    for method in BY_DIGEST.values():
        with pytest.raises(NotFound):
            method(content, other, digest)
    assert list(content.walk(other)) == []

    store(content, other, data, {"k": "b"})
    assert content.info(ctx, digest).labels == {"k": "a"}
    content.update(other, Info(digest, labels={"k": "c"}))
    assert content.info(ctx, digest).labels == {"k": "a"}
    content.delete(ctx, digest)
    assert read(content, other, digest) == data
    assert content.info(other, digest).labels == {"k": "c"}
