"""Content on the disk, across crashes, below the metadata layer, and by convention (CNT-048, CNT-093 to CNT-110)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance import clause
from conformance.suites._content import (
    PATIENCE,
    ROOTED,
    begin,
    call,  # a fixture
    commit,
    digest_of,
    eventually,
    fresh,
    has,
    read,
    stat,
    store,
    upload,  # a fixture
    write,
)
from refimpl.api import content_v1_pb2 as pb
from refimpl.client.unpack import unpack
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor

PLUGIN = "io.containerd.content.v1.content"


def _blob_file(root, digest):
    algorithm, _, encoded = digest.partition(":")
    return root / PLUGIN / "blobs" / algorithm / encoded


def _ingest_folder(root, ref):
    """The directory of an ingest whose client's ref is ``ref``."""
    ingests = (root / PLUGIN / "ingest").glob("*/ref")
    [folder] = [file.parent for file in ingests if file.read_text().endswith(f"/{ref}")]
    return folder


def _offset(content, ctx, ref):
    writer = content.writer(ctx, ref)
    try:
        return writer.status().offset
    finally:
        writer.close()


# Checks that damage what others could meet (an ingest that breaks lists, stray files) have an instance of their own.


@clause("CNT-048")
@pytest.mark.parametrize("name", ["data", "ref", "startedat", "updatedat", "total"])
def test_an_ingest_that_lost_a_file_is_started_over(ctx, content, subject, unique, name):
    """Rejects: a missing file that makes the daemon refuse the ref for ever."""
    ref = unique("ref")
    begin(content, ctx, ref, b"abc", total=9)

    (_ingest_folder(subject.root, ref) / name).unlink()

    if name == "total":
        assert content.status(ctx, ref).offset == 3
    else:
        with pytest.raises(NotFound):
            content.status(ctx, ref)
        assert content.list_statuses(ctx) == []
    assert _offset(content, ctx, ref) == (3 if name == "total" else 0)


@clause("CNT-048")
def test_an_ingest_with_a_time_that_is_none_can_be_started_over(own):
    """Rejects: a damaged ingest that is resumed as if all were well."""
    instance, ctx, ref = own(), CallContext(namespace="damaged"), "ref"
    content = instance.content
    begin(content, ctx, ref, b"abc", total=9)

    (_ingest_folder(instance.root, ref) / "startedat").write_text("garbage")

    with pytest.raises(ContainerdError):
        content.status(ctx, ref)
    assert _offset(content, ctx, ref) == 0
    assert content.status(ctx, ref).ref == ref


@clause("CNT-048")
def test_an_ingest_without_a_directory_is_gone_and_can_be_aborted(ctx, content, subject, unique):
    """Rejects: a record that nobody can get rid of."""
    ref = unique("ref")
    begin(content, ctx, ref, b"abc")
    folder = _ingest_folder(subject.root, ref)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()

    with pytest.raises(NotFound):
        content.status(ctx, ref)
    content.abort(ctx, ref)
    assert _offset(content, ctx, ref) == 0


@clause("CNT-093")
def test_a_blob_is_a_plain_file_under_its_digest(ctx, content, subject):
    """Rejects: blobs that are compressed or encrypted at rest, or that anybody may change."""
    data = fresh()
    digest = store(content, ctx, data)
    file = _blob_file(subject.root, digest)

    assert file.read_bytes() == data
    mode = file.stat()
    assert mode.st_mode & 0o7777 in {0o444, 0o440, 0o400}, "0444 less the umask"
    assert abs(mode.st_mtime_ns - content.info(ctx, digest).created_at) < SECOND
    for folder in ("blobs", "blobs/sha256"):
        assert (subject.root / PLUGIN / folder).stat().st_mode & 0o7777 == 0o755, folder


@clause("CNT-093", needs=())
def test_the_plugin_tells_where_its_files_are(ctx, introspection, subject):
    """Rejects: tools that have to guess the directory."""
    [plugin] = introspection.plugins(ctx, ["type==io.containerd.content.v1,id==content"])

    assert Path(plugin.exports["root"]).name == PLUGIN
    if subject.root is not None:
        assert Path(plugin.exports["root"]) == subject.root / PLUGIN


@clause("CNT-094")
def test_an_ingest_is_a_directory_named_by_the_hash_of_its_ref(ctx, content, subject, unique):
    """Rejects: a directory that is named after the client's ref."""
    ref = unique("disk/ref")
    begin(content, ctx, ref, b"0123456789", total=50)
    folder = _ingest_folder(subject.root, ref)
    files = {file.name: file.read_text() for file in folder.iterdir()}

    assert set(files) == {"data", "ref", "startedat", "updatedat", "total"}
    assert re.fullmatch(rf"{re.escape(ctx.namespace)}/[0-9]+/{re.escape(ref)}", files["ref"])
    assert folder.name == digest_of(files["ref"].encode()).removeprefix("sha256:")
    assert (files["data"], files["total"]) == ("0123456789", "50")
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"
    assert re.fullmatch(moment, files["startedat"])
    assert re.fullmatch(moment, files["updatedat"])

    content.abort(ctx, ref)
    assert not folder.exists()


@clause("CNT-094")
def test_the_directory_of_an_ingest_goes_with_its_commit(ctx, content, subject, unique):
    """Rejects: leftovers of every upload."""
    ref, data = unique("ref"), fresh()
    begin(content, ctx, ref, data)
    folder = _ingest_folder(subject.root, ref)
    assert not (folder / "total").exists(), "none was declared"

    writer = content.writer(ctx, ref)
    try:
        writer.commit(ctx, len(data))
    finally:
        writer.close()
    assert not folder.exists()


@clause("CNT-097")
def test_committed_content_survives_the_death_of_the_daemon(own):
    """Rejects: labels or times that live in memory."""
    instance, ctx, data = own(), CallContext(namespace="crash"), fresh(3000)
    digest = store(instance.content, ctx, data, {**ROOTED, "a": "1"})
    instance.content.update(ctx, Info(digest, labels={"b": "2"}), ["labels.b"])
    before = instance.content.info(ctx, digest)

    instance.restart(kill=True)

    assert instance.content.info(ctx, digest) == before
    assert read(instance.content, ctx, digest) == data
    assert [info.digest for info in instance.content.walk(ctx)] == [digest]


@clause("CNT-098")
def test_a_half_written_ingest_survives_the_death_of_the_daemon(own):
    """Rejects: a start that wipes ingests, or a lock that outlives the process."""
    instance, ctx, data = own(), CallContext(namespace="crash"), fresh(12)
    writer = instance.content.writer(ctx, "ref", total=12)
    writer.write(data[:6])
    started = instance.content.status(ctx, "ref").started_at

    instance.restart(kill=True)
    with suppress(ContainerdError):
        writer.close()

    content = instance.content
    status = content.status(ctx, "ref")
    assert (status.offset, status.total, status.started_at) == (6, 12, started)
    again = content.writer(ctx, "ref")
    try:
        assert (again.status().offset, again.digest()) == (6, digest_of(data[:6]))
        again.write(data[6:])
        again.commit(ctx, 12, digest_of(data), ROOTED)
    finally:
        again.close()
    assert read(content, ctx, digest_of(data)) == data


def _plant(root, data):
    """A blob file that nobody recorded."""
    file = _blob_file(root, digest_of(data))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def _sweep(instance, ctx):
    """A collection that looks at the bytes: one follows a deletion of content."""
    instance.content.delete(ctx, store(instance.content, ctx, fresh(), ROOTED))
    instance.collect(ctx)


@clause("CNT-099")
def test_a_file_without_a_record_is_no_content_but_can_be_adopted(own):
    """Rejects: a commit that fails for ever because the file is there."""
    instance, ctx, data = own(), CallContext(namespace="orphans"), fresh()
    content, digest = instance.content, digest_of(data)
    _plant(instance.root, data)

    for look in (content.info, content.reader):
        with pytest.raises(NotFound):
            look(ctx, digest)
    assert list(content.walk(ctx)) == []
    writer = content.writer(ctx, "ref", expected=digest)
    try:
        assert writer.status().offset == len(data)
    finally:
        writer.close()
    content.abort(ctx, "ref")
    store(content, ctx, data, ROOTED)
    assert read(content, ctx, digest) == data


@clause("CNT-099")
def test_a_file_without_a_record_is_swept_after_a_deletion(own):
    """Rejects: what a crash left that stays for ever."""
    instance, ctx = own(), CallContext(namespace="orphans")
    file = _plant(instance.root, fresh())

    _sweep(instance, ctx)

    assert eventually(lambda: not file.exists())


@clause("CNT-100")
def test_an_ingest_without_a_record_is_swept_after_a_deletion(own):
    """Rejects: abandoned uploads that pile up for ever."""
    instance, ctx, ref = own(), CallContext(namespace="orphans"), "ns/99/zz"
    content = instance.content
    begin(content, ctx, "kept", b"abc")
    folder = _ingest_folder(instance.root, "kept").parent / digest_of(ref.encode()).removeprefix("sha256:")
    folder.mkdir()
    for name in ("startedat", "updatedat"):
        (folder / name).write_text("2020-01-01T00:00:00Z")
    (folder / "ref").write_text(ref)
    (folder / "data").write_bytes(b"data")

    _sweep(instance, ctx)

    assert eventually(lambda: not folder.exists())
    assert content.status(ctx, "kept").offset == 3


@clause("CNT-101")
def test_a_record_without_a_file_is_not_found_when_read_and_can_be_repaired(ctx, content, call, subject, unique):
    """Rejects: a read that succeeds with no data."""
    data = fresh()
    digest = store(content, ctx, data)
    _blob_file(subject.root, digest).unlink()

    assert content.info(ctx, digest).size == len(data)
    assert call("Read", pb.ReadContentRequest(digest=digest)).code == "NOT_FOUND"
    with pytest.raises(AlreadyExists):
        content.writer(ctx, unique("ref"), expected=digest)

    content.delete(ctx, digest)
    store(content, ctx, data)
    assert read(content, ctx, digest) == data


@clause("CNT-102")
def test_stray_files_among_the_blobs_do_not_break_the_store(own):
    """Rejects: a list, a commit or a deletion that fails over a file that is none of the store's."""
    instance, ctx = own(), CallContext(namespace="strays")
    content = instance.content
    deleted = store(content, ctx, fresh(), ROOTED)
    blobs = instance.root / PLUGIN / "blobs"
    foreign, stray = blobs / "md5" / (32 * "a"), blobs / "sha256" / "!notahash"
    foreign.parent.mkdir()
    for file in (foreign, stray):
        file.write_text("stray")

    kept = store(content, ctx, fresh(), ROOTED)
    content.delete(ctx, deleted)
    instance.collect(ctx)
    assert [info.digest for info in content.walk(ctx)] == [kept]
    assert read(content, ctx, kept)

    stray.unlink()
    _sweep(instance, ctx)
    assert eventually(lambda: not _blob_file(instance.root, deleted).exists())
    assert foreign.exists(), "an unknown algorithm is left alone"


def _race(content, ctx, data, clients):
    """The outcomes of commits of the same bytes at the same time: the error of each, or None."""

    def one(number):
        writer = content.writer(ctx, f"race-{number}")
        try:
            writer.write(data)
            writer.commit(ctx, len(data), labels={"winner": str(number)})
        except ContainerdError as error:
            return error
        finally:
            writer.close()
        return None

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(clients)))


@clause("CNT-103")
def test_of_many_commits_of_the_same_bytes_one_succeeds(ctx, content):
    """Rejects: losers that are told of a failed rename."""
    data = fresh(300_000)

    outcomes = _race(content, ctx, data, 8)

    assert outcomes.count(None) == 1, outcomes
    assert {type(error) for error in outcomes if error is not None} == {AlreadyExists}
    assert read(content, ctx, digest_of(data)) == data
    assert content.list_statuses(ctx) == []


@clause("CNT-103")
def test_the_labels_are_those_of_the_commit_that_succeeded(ctx, content, namespaces):
    """Rejects: labels of a loser."""
    data = fresh(100_000)

    outcomes = _race(content, ctx, data, 8)

    assert content.info(ctx, digest_of(data)).labels == {"winner": str(outcomes.index(None))}


@clause("CNT-104")
def test_an_ingest_that_was_cut_behind_the_daemon_is_not_committed(ctx, content, subject, unique):
    """Rejects: a short file under the digest of the full content."""
    ref, data = unique("ref"), fresh(6)
    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        with (_ingest_folder(subject.root, ref) / "data").open("r+b") as file:
            file.truncate(3)
        with pytest.raises(FailedPrecondition):
            writer.commit(ctx, 6)
    finally:
        writer.close()
    assert not has(content, ctx, digest_of(data))


@pytest.fixture
def bare(subject):
    """The content store without a metadata layer above it."""
    if subject.types is not None:
        return subject.content
    if "in-process" not in subject.offers:
        pytest.skip("needs in-process: the content plugin itself cannot be reached behind the metadata layer")
    return subject.plugin("io.containerd.content.v1", "content")


BARE = CallContext(namespace="conform-bare")
"""A plugin object judged alone may be given a namespace, and must not mind; the collector gives none."""


@clause("CNT-105", needs={"content"})
def test_a_bare_store_knows_neither_namespaces_nor_labels(bare, subject, unique):
    """Rejects: a back end that insists on a namespace, so that the collector cannot walk it."""
    ctx = BARE if subject.types is not None else CallContext()
    data = fresh()
    digest = store(bare, ctx, data, {"a": "b"}, ref=unique("ref"))

    info = bare.info(ctx, digest)
    assert (info.size, info.labels) == (len(data), {})
    assert abs(time.time_ns() - info.created_at) < 60 * SECOND
    assert digest in [each.digest for each in bare.walk(ctx)]
    with pytest.raises(FailedPrecondition):
        bare.update(ctx, Info(digest, labels={"c": "d"}), ["labels.c"])
    assert bare.info(ctx, digest).labels == {}
    assert bare.info(ctx.with_namespace("conform-other"), digest) == info
    assert read(bare, ctx, digest) == data


@clause("CNT-106", needs={"content"})
def test_a_bare_store_has_the_error_kinds_that_the_layer_above_relies_on(bare, subject, unique):
    """Rejects: another kind, which the metadata layer would take for something else."""
    ctx = BARE if subject.types is not None else CallContext()
    absent = digest_of(fresh())
    for look in (bare.info, bare.reader):
        with pytest.raises(NotFound):
            look(ctx, absent)
    with pytest.raises(NotFound):
        bare.status(ctx, unique("absent"))
    with pytest.raises(InvalidArgument):
        bare.writer(ctx, "")
    with pytest.raises(InvalidArgument):
        bare.writer(ctx, unique("ref"), expected="sha256:zz")
    existing = store(bare, ctx, fresh(), ref=unique("ref"))
    with pytest.raises(AlreadyExists):
        bare.writer(ctx, unique("ref"), expected=existing)


@clause("CNT-106", needs={"content"})
def test_the_writer_of_a_bare_store_refuses_what_the_layer_above_must_not_do(bare, subject, unique):
    """Rejects: a second writer, a commit of what was let go, a cut in the middle."""
    ctx, ref = BARE if subject.types is not None else CallContext(), unique("ref")
    writer = bare.writer(ctx, ref)
    try:
        with pytest.raises(Unavailable):
            bare.writer(ctx, ref)
        writer.write(b"abcdef")
        with pytest.raises(ContainerdError):
            writer.truncate(3)
    finally:
        writer.close()
    writer.close()
    with pytest.raises(FailedPrecondition):
        writer.commit(ctx, 6)
    assert bare.status(ctx, ref).offset == 6
    bare.abort(ctx, ref)


@clause("CNT-106", needs={"content"})
def test_removing_what_a_bare_store_does_not_have_is_no_failure(bare, subject, unique):
    """Rejects: the deletion of an absent blob that ends a collection."""
    ctx = BARE if subject.types is not None else CallContext()
    # A server in front of the store may say NotFound, which the collector takes as well.
    allowed = (NotFound,) if subject.has_socket and subject.types is not None else ()
    for remove, name in ((bare.delete, digest_of(fresh())), (bare.abort, unique("absent"))):
        with suppress(*allowed):
            remove(ctx, name)


def _layer(**files):
    """An uncompressed layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


UNCOMPRESSED = "containerd.io/uncompressed"
GZIPPED_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"


@clause("CNT-107")
def test_neither_store_nor_apply_guess_what_a_blob_uncompresses_to(ctx, content, diff, snapshotter):
    """Rejects: a label made up from the first bytes on commit, which nobody has verified."""
    layer = _layer(file=fresh())
    packed = gzip.compress(layer)
    digest = store(content, ctx, packed)
    assert content.info(ctx, digest).labels == {}

    mounts = snapshotter.prepare(ctx, "work")
    applied = diff.apply(ctx, Descriptor(GZIPPED_LAYER, digest, len(packed)), mounts)

    assert applied.digest == digest_of(layer)
    assert content.info(ctx, digest).labels == {}


@clause("CNT-107")
def test_a_compressed_diff_is_labelled_with_its_diff_id(ctx, content, diff, snapshotter):
    """Rejects: a label with the digest of the compressed bytes."""
    layer = _layer(file=fresh())
    packed = gzip.compress(layer)
    upper = snapshotter.prepare(ctx, "upper")
    diff.apply(ctx, Descriptor(GZIPPED_LAYER, store(content, ctx, packed), len(packed)), upper)
    lower = snapshotter.view(ctx, "lower")

    made = diff.compare(ctx, lower, upper, media_type=GZIPPED_LAYER)

    assert content.info(ctx, made.digest).labels[UNCOMPRESSED] == digest_of(
        gzip.decompress(read(content, ctx, made.digest))
    )


@clause("CNT-107")
@pytest.mark.parametrize("media_type", [GZIPPED_LAYER, PLAIN_LAYER], ids=["gzip", "plain"])
def test_an_unpacked_layer_is_labelled_with_its_diff_id(ctx, content, images, leases, diff, snapshotter, media_type):
    """Rejects: an unpacking client that keeps what it has verified to itself."""
    layer = _layer(file=fresh())
    blob = gzip.compress(layer) if media_type == GZIPPED_LAYER else layer
    layers = [Descriptor(media_type, store(content, ctx, blob), len(blob))]
    machine = SimpleNamespace(
        content=content, images=images, leases=leases, diff=diff, snapshotter=lambda _: snapshotter
    )

    unpack(ctx, machine, _image(content, ctx, layers, [digest_of(layer)]), "any")

    assert content.info(ctx, digest_of(blob)).labels[UNCOMPRESSED] == digest_of(layer)


def _image(content, ctx, layers, diff_ids):
    """A manifest of these layers, stored; its descriptor."""

    def put(media_type, document):
        data = json.dumps(document).encode()
        return Descriptor(media_type, store(content, ctx, data), len(data))

    def entry(descriptor):
        return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}

    config = put(
        "application/vnd.oci.image.config.v1+json",
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}},
    )
    return put(
        "application/vnd.oci.image.manifest.v1+json",
        {"schemaVersion": 2, "config": entry(config), "layers": [entry(layer) for layer in layers]},
    )


@clause("CNT-109")
def test_a_download_that_broke_off_goes_on_where_it_stood(ctx, content, upload, unique):
    """Rejects: a STAT that says 0 after a broken stream, so that every retry fetches everything."""
    ref, data = unique("layer"), fresh(300_000)
    digest, half = digest_of(data), 150_000
    gone = threading.Event()

    def download():
        yield stat(ref, total=len(data), expected=digest)
        yield write(data[:half])
        gone.wait(3 * PATIENCE)

    try:
        # Two answers are awaited, then the client drops the call as a puller does whose source went away.
        first = upload.stream(download(), limit=2)
    finally:
        gone.set()
    assert [message.offset for message in first.messages] == [0, half]

    def resumed():
        answer = upload(stat(ref, total=len(data), expected=digest))
        return [message.offset for message in answer.messages[:1]] == [half]

    assert eventually(resumed), "the retry fetches only what is missing"
    writer = content.writer(ctx, ref, total=len(data), expected=digest)
    try:
        writer.write(data[half:])
        writer.commit(ctx, len(data), digest)
    finally:
        writer.close()
    assert read(content, ctx, digest) == data


@clause("CNT-109")
def test_a_resumed_download_is_verified_as_a_whole(ctx, content, unique):
    """Rejects: trusting the first half because it is there."""
    ref, data = unique("layer"), fresh(200)
    begin(content, ctx, ref, fresh(100), total=200)

    writer = content.writer(ctx, ref, total=200, expected=digest_of(data))
    try:
        assert writer.status().offset == 100
        writer.write(data[100:])
        with pytest.raises(FailedPrecondition):
            writer.commit(ctx, 200, digest_of(data))
    finally:
        writer.close()
    assert not has(content, ctx, digest_of(data))


@clause("CNT-110")
def test_the_verbs_of_the_command_line_find_what_they_need(ctx, content, upload, unique):
    """Rejects: a repeated ingest that fails with a code which the command does not take for success."""
    data, again, short = fresh(5), unique("again"), unique("short")
    digest = digest_of(data)

    # ctr content ingest, twice: the second ends in AlreadyExists, and leaves nothing behind.
    assert upload(stat(unique("first")), write(data), commit(offset=5)).ok
    assert upload(stat(again), write(data), commit(offset=5)).code == "ALREADY_EXISTS"
    assert [info.digest for info in content.walk(ctx)] == [digest]
    # ctr content ingest --expected-size, of less: refused, and shown by ctr content active.
    answer = upload(stat(short, total=5), write(data[:4]), commit(offset=4, total=5))
    assert answer.code == "FAILED_PRECONDITION"
    assert [(status.ref, status.offset) for status in content.list_statuses(ctx)] == [(short, 4)]
    # ctr content get, label, rm, ls.
    assert read(content, ctx, digest) == data
    assert content.update(ctx, Info(digest, labels={"k": "v"}), ["labels.k"]).labels == {"k": "v"}
    content.delete(ctx, digest)
    assert list(content.walk(ctx)) == []
