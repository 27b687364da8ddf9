"""Metadata: how records lie in the file, key by key (MET-030 to 038, 041, 042, 057)."""

from __future__ import annotations

import struct
import time

import pytest

from conformance import clause
from conformance.suites._content import begin, digest_of, fresh, has, offset_of, store
from conformance.suites._metadata import (
    MANIFEST,
    ME,
    ON_DISK,
    QUIET,
    REPLACED,
    SPEC,
    container,
    image,
    number,
    put,
    records,
    settled,
)
from conformance.suites._snapshots import committed
from refimpl.contract.containers import RuntimeInfo
from refimpl.contract.errors import InvalidArgument
from refimpl.contract.leases import Resource
from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny

UTC = b"\xff\xff"
YEAR_1 = 62135596800
"""Seconds from the beginning of the year 1 to the Unix epoch."""

DAY = 86400


def _time(value):
    """Unix nanoseconds of a time in Go's binary form."""
    form, seconds, nanoseconds, zone = struct.unpack(">BqI2s", value)
    assert (form, zone) == (1, UTC)
    return (seconds - YEAR_1) * SECOND + nanoseconds


def _any(type_url, value):
    """A google.protobuf.Any in bytes, for short ones."""
    first = b"\x0a" + bytes([len(type_url)]) + type_url.encode()
    return first + (b"\x12" + bytes([len(value)]) + value if value else b"")


# ----------------------------------------------------------------------------------------------- containers and images


@clause("MET-030", needs=ON_DISK)
def test_the_way_to_a_record_is_namespace_kind_and_name(subject, new_namespace, containers, images, leases):
    """Rejects: another order, or other words."""
    one, two = new_namespace(), new_namespace()
    containers.create(one, container("x"))
    images.create(one, image("x", digest_of(fresh())))
    leases.create(one, "x")
    containers.create(two, container("x"))

    found = records(subject)
    for kind in ("containers", "images", "leases"):
        assert "x" in found.bucket("v1", one.namespace, kind).names
    assert found.bucket("v1", two.namespace, "containers").names == {"x"}
    assert found.at("v1", two.namespace, "images") is None


@clause("MET-031", needs=ON_DISK)
def test_the_record_of_a_container(subject, ctx, containers):
    """Rejects: other keys, other encodings, and extensions that are kept elsewhere."""
    runtime = RuntimeInfo("io.containerd.runc.v2", TypedAny("containerd.runc.v1.Options", b"\x08\x01"))
    made = containers.create(
        ctx,
        container(
            "c1", image="img1", labels={"a": "1"}, snapshotter="overlayfs", snapshot_key="k/1", runtime=runtime,
            extensions={"ext.a": TypedAny("t/x", b"\x01")},
        ),
    )  # fmt: skip

    record = records(subject).bucket("v1", ctx.namespace, "containers", "c1")
    assert record.names - {"sandboxid"} == {
        "createdat", "updatedat", "spec", "image", "snapshotter", "snapshotKey", "runtime", "labels", "extensions",
    }  # fmt: skip
    assert record.value("spec") == _any(SPEC.type_url, SPEC.value)
    assert (record.value("image"), record.value("snapshotter")) == (b"img1", b"overlayfs")
    assert record.value("snapshotKey") == b"k/1"
    assert record.bucket("labels") == {b"a": b"1"}
    assert record.bucket("extensions") == {b"ext.a": bytes.fromhex("0a03742f78120101")}
    assert record.bucket("runtime") == {
        b"name": b"io.containerd.runc.v2",
        b"options": _any("containerd.runc.v1.Options", b"\x08\x01"),
    }
    assert _time(record.value("createdat")) == made.created_at


@clause("MET-032", needs=ON_DISK)
def test_what_is_empty_is_stored_unless_it_is_a_map(subject, ctx, containers):
    """Rejects: an empty spec that comes back as none, and buckets with nothing in them."""
    containers.create(ctx, container("v4", spec=TypedAny("", b"")))

    assert containers.get(ctx, "v4").spec == TypedAny("", b"")
    record = records(subject).bucket("v1", ctx.namespace, "containers", "v4")
    for key in ("spec", "image", "snapshotter", "snapshotKey"):
        assert record.value(key) == b""
    assert record.at("labels") is None
    assert record.at("extensions") is None
    assert record.bucket("runtime").names == {"name"}


@clause("MET-033", needs=ON_DISK)
def test_times_are_kept_to_the_nanosecond(subject, ctx, containers):
    """Rejects: seconds, text, or another zone."""
    made = containers.create(ctx, container("te"))
    time.sleep(0.01)
    changed = containers.update(ctx, container("te", image="x"), ["image"])

    record = records(subject).bucket("v1", ctx.namespace, "containers", "te")
    assert len(record.value("createdat")) == 15
    assert _time(record.value("createdat")) == made.created_at == changed.created_at
    assert _time(record.value("updatedat")) == changed.updated_at > made.created_at


@clause("MET-034", needs=ON_DISK)
def test_an_empty_label_is_nowhere(subject, ctx, containers):
    """Rejects: a key without value that readers hide."""
    containers.create(ctx, container("c", labels={"a": "1", "e": ""}))
    containers.create(ctx, container("d", labels={"e": ""}))
    found = records(subject).bucket("v1", ctx.namespace, "containers")
    assert found.bucket("c", "labels") == {b"a": b"1"}
    containers.update(ctx, container("c", labels={"b": "2"}), ["labels"])
    assert records(subject).bucket("v1", ctx.namespace, "containers", "c", "labels") == {b"b": b"2"}


@clause("MET-041", needs=ON_DISK)
def test_the_record_of_an_image(subject, ctx, images):
    """Rejects: annotations that are lost, or kept in the target."""
    digest = digest_of(fresh())
    images.create(ctx, image("docker.io/x:1", digest, 415, annotations={"k": "v"}))
    images.create(ctx, image("plain", digest, labels={"a": "1"}))

    found = records(subject).bucket("v1", ctx.namespace, "images")
    record = found.bucket("docker.io/x:1")
    assert record.names == {"createdat", "updatedat", "target", "annotations"}
    assert record.bucket("target") == {
        b"digest": digest.encode(), b"mediatype": MANIFEST.encode(), b"size": bytes.fromhex("be06"),
    }  # fmt: skip
    assert record.bucket("annotations") == {b"k": b"v"}
    assert found.bucket("plain").names == {"createdat", "updatedat", "target", "labels"}


# --------------------------------------------------------------------------------------------------- content and leases


@clause("MET-035", needs=ON_DISK)
def test_the_record_of_a_blob(subject, new_namespace, content):
    """Rejects: sizes of another encoding, and bytes that are kept once for each namespace."""
    one, two, data = new_namespace(), new_namespace(), fresh(11)
    digest = store(content, one, data)
    assert store(content, two, data, {"a": "1"}) == digest

    for ctx, names in ((one, {"createdat", "updatedat", "size"}), (two, {"createdat", "updatedat", "size", "labels"})):
        record = records(subject).bucket("v1", ctx.namespace, "content", "blob", digest)
        assert record.names == names
        assert record.value("size") == b"\x16"
    (file,) = (subject.root / "io.containerd.content.v1.content" / "blobs" / "sha256").glob(digest.partition(":")[2])
    assert file.read_bytes() == data
    assert not has(content, new_namespace(), digest)


@clause("MET-036", needs=ON_DISK)
def test_the_record_of_an_ingest(subject, new_namespace, content, unique):
    """Rejects: a ref that two namespaces share in the back end."""
    one, two, ref = new_namespace(), new_namespace(), unique("r")
    begin(content, one, ref, b"abc")
    begin(content, two, ref, b"defgh")

    for ctx, offset in ((one, 3), (two, 5)):
        assert [(status.ref, status.offset) for status in content.list_statuses(ctx)] == [(ref, offset)]
        record = records(subject).bucket("v1", ctx.namespace, "content", "ingests", ref)
        assert record.value("ref") == f"{ctx.namespace}/1/{ref}".encode()
        assert record.sequence == 1
        assert record.at("expected") is None


@clause("MET-036", needs=ON_DISK)
def test_a_shared_ingest_notes_what_is_expected(subject, new_namespace, content, unique):
    """Rejects: a shared upload that forgets what it stands for."""
    owner, other, ref = new_namespace(), new_namespace(), unique("r")
    digest = store(content, owner, fresh(11))
    content.writer(other, ref, total=11, expected=digest).close()
    record = records(subject).bucket("v1", other.namespace, "content", "ingests", ref)
    assert record.value("expected") == digest.encode()


@clause("MET-037", needs=ON_DISK)
def test_an_ingest_without_lease_expires_in_a_day(subject, ctx, unleased, content, leases, unique):
    """Rejects: ingests that never expire, another time, and an expiry under a lease."""
    free, leased = unique("free"), unique("leased")

    def expiry(ref):
        value = records(subject).at("v1", ctx.namespace, "content", "ingests", ref, "expireat")
        return None if value is None else _time(value)

    before = time.time_ns()
    begin(content, unleased, free, b"a")
    first = expiry(free)
    assert before + DAY * SECOND <= first <= time.time_ns() + DAY * SECOND
    begin(content, unleased, free, b"")
    second = expiry(free)
    assert second > first, "opened once more, it lives on"
    begin(content, ctx, free, b"")
    assert expiry(free) == second, "a lease takes nothing away"
    assert Resource(free, "ingests") in leases.list_resources(ctx, ctx.lease)
    begin(content, ctx, leased, b"a")
    assert expiry(leased) is None


@clause("MET-037", needs=REPLACED)
def test_an_expired_ingest_is_collected(own):
    """Rejects: a time that nobody looks at."""
    instance = own(config=QUIET)
    lease = instance.leases.create(ME, "l").id
    begin(instance.content, ME, "old", b"abc")
    begin(instance.content, ME, "young", b"abc")
    begin(instance.content, ME.with_lease(lease), "held", b"abc")
    found = records(instance)
    seconds = time.time_ns() // SECOND - 10 + YEAR_1
    found.bucket("v1", "t", "content", "ingests", "old")[b"expireat"] = struct.pack(">BqI2s", 1, seconds, 0, UTC)
    put(instance, found)
    instance.restart()

    instance.collect(ME.with_namespace("elsewhere"))

    assert offset_of(instance.content, ME, "old") is None
    assert {status.ref for status in instance.content.list_statuses(ME)} == {"young", "held"}


@clause("MET-042", needs=ON_DISK)
def test_the_record_of_a_lease(subject, unleased, leases, content, snapshotter, snapshotter_id, unique):
    """Rejects: one flat list of resources."""
    lease = leases.create(unleased, unique("s1"), {"a": "1"})
    ctx = unleased.with_lease(lease.id)
    digest = store(content, ctx, fresh())
    committed(snapshotter, ctx, "n1")

    record = records(subject).bucket("v1", ctx.namespace, "leases", lease.id)
    assert record.names == {"createdat", "labels", "content", "ingests", "snapshots"}
    assert record.bucket("content") == {digest.encode(): b""}
    assert record.bucket("ingests") == {}
    assert record.bucket("snapshots", snapshotter_id) == {b"n1": b""}
    assert _time(record.value("createdat")) == lease.created_at


# ----------------------------------------------------------------------------------------------------------- snapshots


@clause("MET-038", needs=ON_DISK)
def test_the_record_of_a_snapshot(subject, new_namespace, snapshotter, snapshotter_id):
    """Rejects: a counter for all namespaces, and names of clients in the back end."""
    one, two = new_namespace(), new_namespace()
    for ctx in (one, two):
        snapshotter.prepare(ctx, "k1", labels={"a": "1"})
        snapshotter.commit(ctx, "n1", "k1", {"b": "2"})
        snapshotter.prepare(ctx, "k2", "n1")
        snapshotter.view(ctx, "v1", "n1")

    for ctx in (one, two):
        found = records(subject).bucket("v1", ctx.namespace, "snapshots", snapshotter_id)
        assert found.names == {"n1", "k2", "v1"}
        names = {key: found.value(key, "name").decode() for key in found.names}
        assert names == {"n1": f"{ctx.namespace}/2/n1", "k2": f"{ctx.namespace}/3/k2", "v1": f"{ctx.namespace}/4/v1"}
        assert found.sequence == 4
        assert found.bucket("n1").names == {"name", "createdat", "updatedat", "children", "labels"}
        assert found.bucket("n1", "children") == {b"k2": b"", b"v1": b""}
        assert found.bucket("n1", "labels") == {b"b": b"2"}
        assert found.bucket("k2").names == {"name", "createdat", "updatedat", "parent"}
        assert found.value("k2", "parent") == b"n1"


@clause("MET-038", needs=ON_DISK)
def test_a_back_end_that_refuses_uses_up_a_number(subject, ctx, snapshotter, snapshotter_id):
    """Rejects: a number that is given twice."""
    snapshotter.prepare(ctx, "active")

    def given(key):
        record = records(subject).value("v1", ctx.namespace, "snapshots", snapshotter_id, key, "name")
        return int(record.split(b"/")[1])

    before = given("active")
    with pytest.raises(InvalidArgument):
        snapshotter.prepare(ctx, "refused", "active")
    snapshotter.prepare(ctx, "next")
    assert given("next") == before + 2


@clause("MET-039", needs=ON_DISK)
def test_the_index_of_children_follows_them(subject, ctx, snapshotter, snapshotter_id):
    """Rejects: entries under a name that the child has no more, or that stay behind it."""
    committed(snapshotter, ctx, "base")
    snapshotter.prepare(ctx, "kid", "base")

    def children():
        return records(subject).at("v1", ctx.namespace, "snapshots", snapshotter_id, "base", "children")

    assert children() == {b"kid": b""}
    snapshotter.commit(ctx, "kid2", "kid")
    assert children() == {b"kid2": b""}
    snapshotter.remove(ctx, "kid2")
    assert not children()


@clause("MET-057", needs=ON_DISK | {"config"})
def test_the_database_of_a_snapshotter(own):
    """Rejects: other numbers of kinds, and a new id for what is committed."""
    instance = own(config=QUIET)
    native = instance.snapshotter("native")
    ctx = ME.with_lease(instance.leases.create(ME, "l").id)
    native.prepare(ctx, "k1")
    native.commit(ctx, "n1", "k1")
    native.prepare(ctx, "k2", "n1")
    native.view(ctx, "v1", "n1")

    v1 = settled(instance.root / "io.containerd.snapshotter.v1.native" / "metadata.db").bucket("v1")
    found = v1.bucket("snapshots")
    assert (found.names, found.sequence) == ({"t/2/n1", "t/3/k2", "t/4/v1"}, 3)
    kept = {
        name: (found.value(name, "id"), found.value(name, "kind"), found.at(name, "parent")) for name in found.names
    }
    assert kept == {
        "t/2/n1": (b"\x01", b"\x03", None),
        "t/3/k2": (b"\x02", b"\x02", b"t/2/n1"),
        "t/4/v1": (b"\x03", b"\x01", b"t/2/n1"),
    }
    assert number(found.value("t/2/n1", "inodes")) >= 1
    assert number(found.value("t/2/n1", "size")) >= 0
    assert found.at("t/3/k2", "size") is None
    assert v1.bucket("parents") == {b"\x01\x00\x02": b"t/3/k2", b"\x01\x00\x03": b"t/4/v1"}
