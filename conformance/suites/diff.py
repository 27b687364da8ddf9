"""The differ, unpacking: the call, media types, and the mounts that a layer is written to (DIF-001 to DIF-018).

What entries become is in ``diff_entries``, what must not happen in ``diff_safety``, programs and orders of differs in
``diff_processors``, packing in ``diff_layers``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import gzip
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from google.protobuf.empty_pb2 import Empty

from conformance import clause
from conformance.suites._content import digest_of, fresh
from conformance.suites._diff import (
    DOCKER,
    FOREIGN,
    GZIP,
    SERVICE,
    SIMPLE,
    TAR,
    ZSTD,
    bench,  # a fixture
    file,
    folder,
    overlay,
    special,
    tar,
    whiteout,
)
from conformance.suites._events import listen  # a fixture
from conformance.wire import Wire
from refimpl.api import diff_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.mounts import FileType, Mount
from refimpl.contract.types import Descriptor

NO_CHECK: dict[str, str] = {
    "DIF-069": "the erofs differ of 2.x loads only beside a mkfs.erofs that converts archives, which no subject has",
}
"""Clauses of the whole area that no check decides, and why."""

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

PACKED = {"plain": SIMPLE, "gzip": gzip.compress(SIMPLE, mtime=0), "zstd": zstandard.compress(SIMPLE)}
"""One layer in all its wrappings."""

SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"
"""A frame of zstd without content."""

ANSWER = Descriptor(TAR, digest_of(SIMPLE), len(SIMPLE))


def _refused(bench, data, onto, media_type=TAR):
    """The error with which a layer is refused."""
    with pytest.raises(ContainerdError) as error:
        bench.apply(data, onto, media_type)
    return error.value


# ------------------------------------------------------------------------------------------------------------ the call


@clause("DIF-001")
@pytest.mark.parametrize("wrapping,media_type", [("plain", TAR), ("gzip", GZIP), ("zstd", ZSTD)])
def test_the_answer_describes_the_archive_without_its_compression(bench, wrapping, media_type):
    """Rejects: an answer that repeats the blob's own digest and size, which no image's diff id equals."""
    place = bench.place()
    digest, size = bench.store(PACKED[wrapping]), len(PACKED[wrapping])

    answer = bench.diff.apply(bench.ctx, Descriptor(media_type, digest, size, annotations={"a": "b"}), place.mounts)

    assert answer == ANSWER, "nor are annotations handed back"
    assert place.paths() == ["a"]


@clause("DIF-002")
@pytest.mark.parametrize(
    "layer,files",
    [(SIMPLE + b"junk" * 1000, ["a"]), (SIMPLE + bytes(3 << 20), ["a"]), (bytes(1024), [])],
    ids=["garbage", "more than any buffer", "no entries at all"],
)
def test_what_stands_behind_the_archive_belongs_to_the_layer(bench, layer, files):
    """Rejects: reading no further than the mark of the archive's end, which gives padded layers a wrong diff id."""
    place = bench.place()
    assert bench.apply(layer, place) == Descriptor(TAR, digest_of(layer), len(layer))
    assert place.paths() == files


@clause("DIF-003")
@pytest.mark.parametrize("media_type", [TAR, GZIP, ZSTD])
def test_an_empty_blob_is_an_empty_layer(bench, media_type):
    """Rejects: a decompressor that insists on a header."""
    place = bench.place({"stays": b""})
    assert bench.apply(b"", place, media_type) == Descriptor(TAR, digest_of(b""), 0)
    assert place.paths() == ["stays"]


@clause("DIF-004")
@pytest.mark.parametrize(
    "media_type,wrapping",
    [
        *((base + suffix, wrapping) for base in (TAR, NONDISTRIBUTABLE) for suffix, wrapping in
          (("", "plain"), ("+gzip", "gzip"), ("+zstd", "zstd"))),
        *((base + suffix, wrapping) for base in (DOCKER, FOREIGN) for suffix, wrapping in
          (("", "plain"), (".gzip", "gzip"))),
        (TAR + "+zstd+gzip", "zstd"),
        (TAR + "+gzip+foo", "gzip"),
    ],
)  # fmt: skip
def test_layers_of_all_these_types_are_unpacked(bench, media_type, wrapping):
    """Rejects: refusing foreign or nondistributable layers; looking at the first suffix only."""
    place = bench.place()
    assert bench.apply(PACKED[wrapping], place, media_type) == ANSWER
    assert place.paths() == ["a"]


@clause("DIF-004")
def test_dockers_zstd_layers_are_unpacked_or_refused(bench):
    """Rejects: taking the compressed bytes for an archive."""
    place = bench.place()
    try:
        assert bench.apply(PACKED["zstd"], place, f"{DOCKER}.zstd") == ANSWER
    except Unknown:
        assert place.paths() == []
        pytest.skip("the type is refused, as before 2.x")


@clause("DIF-005")
@pytest.mark.parametrize(
    "layer,media_type",
    [
        (PACKED["plain"], GZIP),
        (PACKED["gzip"], ZSTD),
        (PACKED["zstd"], GZIP),
        (PACKED["gzip"], DOCKER),
        (PACKED["plain"], f"{DOCKER}.gzip"),
        (SKIPPABLE + PACKED["zstd"], ZSTD),
    ],
    ids=[
        "plain as gzip",
        "gzip as zstd",
        "zstd as gzip",
        "gzip as docker",
        "plain as docker's gzip",
        "skippable frame",
    ],
)
def test_the_bytes_say_how_they_are_compressed(bench, layer, media_type):
    """Rejects: trusting the suffix of the type, so that mislabelled layers fail."""
    place = bench.place()
    assert bench.apply(layer, place, media_type) == ANSWER


@clause("DIF-005")
@pytest.mark.parametrize(
    "layer,media_type", [(PACKED["gzip"], TAR), (lzma.compress(SIMPLE), GZIP)], ids=["gzip as plain", "xz as gzip"]
)
def test_a_plain_type_is_taken_at_its_word(bench, layer, media_type):
    """Rejects: undoing a compression that the type rules out, or one that layers do not have."""
    place = bench.place()
    _refused(bench, layer, place, media_type)
    assert place.paths() == []


@clause("DIF-006")
def test_members_of_gzip_are_one_stream(bench):
    """Rejects: reading the first member only: the rest of the layer is lost without a word."""
    layer = tar(file("first", fresh()), file("second", fresh()))
    place = bench.place()
    answer = bench.apply(gzip.compress(layer[:700]) + gzip.compress(layer[700:]), place, GZIP)
    assert answer == Descriptor(TAR, digest_of(layer), len(layer))
    assert place.paths() == ["first", "second"]


@clause("DIF-006")
@pytest.mark.parametrize("behind", [b"garbage", bytes(512)], ids=["garbage", "zeros"])
def test_what_is_no_member_of_gzip_is_an_error(bench, behind):
    """Rejects: stopping at the first byte that is no member, as if it were the end."""
    _refused(bench, PACKED["gzip"] + behind, bench.place(), GZIP)


@clause("DIF-007")
@pytest.mark.parametrize(
    "media_type", ["application/octet-stream", "", "application/vnd.oci.image.manifest.v1+json", f"{TAR}.gzip"]
)
def test_a_type_that_nobody_processes_is_refused_before_anything_is_written(bench, media_type):
    """Rejects: taking an unknown type for a plain archive."""
    place = bench.place()
    assert isinstance(_refused(bench, SIMPLE, place, media_type), (Unknown, Unimplemented))
    assert place.paths() == []


@clause("DIF-008")
def test_an_unknown_suffix_counts_for_nothing_or_is_refused(bench):
    """Rejects: an answer about something else than the archive."""
    place = bench.place()
    try:
        assert bench.apply(SIMPLE, place, f"{TAR}+foo") == ANSWER
    except Unknown:
        assert place.paths() == []


@clause("DIF-008")
def test_an_encrypted_layer_is_not_taken_for_an_archive(bench):
    """Rejects: feeding the reader of archives with what nobody has decrypted."""
    # A subject that has a program for the type fails as well: this is nothing that could be decrypted.
    place = bench.place()
    _refused(bench, SIMPLE, place, f"{TAR}+encrypted")
    assert place.paths() == []


@clause("DIF-009")
@pytest.mark.parametrize("digest", [digest_of(b"absent"), "sha256:zz", "none at all"])
def test_a_blob_that_is_not_there_is_not_found(bench, digest):
    """Rejects: another kind of error, or an empty layer."""
    place = bench.place()
    with pytest.raises(NotFound):
        bench.diff.apply(bench.ctx, Descriptor(TAR, digest, 1), place.mounts)


@clause("DIF-009")
def test_a_blob_of_another_namespace_is_not_found(bench, new_namespace):
    """Rejects: a differ that reads the shared store, and hands out other people's layers."""
    layer = tar(file("secret", fresh()))
    digest, place = bench.store(layer, new_namespace()), bench.place()
    with pytest.raises(NotFound):
        bench.diff.apply(bench.ctx, Descriptor(TAR, digest, len(layer)), place.mounts)
    assert place.paths() == []


@clause("DIF-009")
def test_without_a_namespace_there_is_no_blob(bench):
    """Rejects: a namespace that the server makes up."""
    place = bench.place()
    digest = bench.store(SIMPLE)
    with pytest.raises(FailedPrecondition):
        bench.diff.apply(CallContext(), Descriptor(TAR, digest, len(SIMPLE)), place.mounts)


@clause("DIF-009")
def test_the_size_that_the_caller_gives_is_not_compared(bench):
    """Rejects: cutting the blob at the size that somebody says it has."""
    place = bench.place()
    assert bench.diff.apply(bench.ctx, Descriptor(TAR, bench.store(SIMPLE), 5), place.mounts) == ANSWER


@clause("DIF-010")
def test_a_request_without_a_layer_is_refused_and_the_server_lives(own):
    """Rejects: reading the fields of a message that is not there, which ends the daemon."""
    wire = Wire(own().address)
    try:
        answer = wire.call(f"{SERVICE}/Apply", pb.ApplyRequest(mounts=[types_pb2.Mount(type="bind")]), namespace="n")
        after = wire.call("containerd.services.version.v1.Version/Version", Empty())
    finally:
        wire.close()
    assert (answer.code, after.code) == ("INVALID_ARGUMENT", "OK")


@clause("DIF-011")
def test_unpacking_leaves_no_trace_in_the_store(bench, listen):
    """Rejects: labelling the blob with a diff id that nobody has verified."""
    data = gzip.compress(tar(file("a", fresh())))
    digest, place = bench.store(data), bench.place()
    before = bench.content.info(bench.ctx, digest)
    told = listen()
    bench.diff.apply(bench.ctx, Descriptor(GZIP, digest, len(data)), place.mounts)
    assert bench.content.info(bench.ctx, digest) == before
    assert told() == []


# -------------------------------------------------------------------------------------------------------------- mounts


@clause("DIF-012")
def test_of_two_mounts_the_later_covers_the_earlier(bench):
    """Rejects: performing the first mount only, or writing through each of them."""
    first, second = bench.place(), bench.place()
    bench.apply(SIMPLE, [*first.mounts, *second.mounts])
    assert (first.paths(), second.paths()) == ([], ["a"])


@clause("DIF-012", needs={"disk"})
@pytest.mark.parametrize("layer", ["good", "cut", "climbing"])
def test_the_mount_of_a_call_is_gone_after_it(bench, subject, layer):
    """Rejects: a mount, or its directory, that a failed extraction leaves behind."""
    place = bench.place({"file": b""})
    layers = {"good": SIMPLE, "cut": tar(file("a", bytes(5000)))[:2000], "climbing": tar(file("file/../../x/y/z"))}
    try:
        bench.apply(layers[layer], place)
    except Unknown:
        assert layer != "good"
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if place.path in line]
    if (temporary := subject.root / "tmpmounts").exists():
        assert list(temporary.iterdir()) == []


@clause("DIF-013")
@pytest.mark.parametrize("mount", ["missing source", "unknown file system", "overlay of one lower directory"])
def test_mounts_that_cannot_be_performed_fail_the_call(bench, mount):
    """Rejects: unpacking into the bare mount point where the mount should have been."""
    place = bench.place()
    mounts = {
        "missing source": Mount("bind", f"{place.path}/nothing", options=("rbind", "rw")),
        "unknown file system": Mount("nosuchfs", "none"),
        "overlay of one lower directory": Mount("overlay", "overlay", options=(f"lowerdir={place.path}",)),
    }
    assert isinstance(_refused(bench, SIMPLE, [mounts[mount]]), Unknown)
    assert place.paths() == []


@clause("DIF-013")
def test_a_read_only_target_stays_as_it_is(bench):
    """Rejects: dropping the option that makes it read-only."""
    place = bench.place()
    mount = replace(place.mounts[0], options=("rbind", "ro"))
    assert isinstance(_refused(bench, SIMPLE, [mount]), Unknown)
    assert place.paths() == []


@clause("DIF-014")
def test_a_layer_needs_something_to_be_written_to(own):
    """Rejects: success that leaves the files in a directory of nobody's."""
    instance = own()
    content = instance.content
    writer = content.writer(CallContext(namespace="n"), "ref")
    writer.write(SIMPLE)
    writer.commit(CallContext(namespace="n"), len(SIMPLE), digest_of(SIMPLE))
    with pytest.raises(InvalidArgument):
        instance.diff.apply(CallContext(namespace="n"), ANSWER, [])


# ------------------------------------------------------------------------------------------------- straight into layers


@clause("DIF-015")
def test_an_overlays_upper_directory_gets_overlay_whiteouts(bench):
    """Rejects: carrying the whiteouts out in the upper directory, so that what is below shines through."""
    upper, work, lower = bench.place(), bench.place(), bench.place({"gone": b"", "o/old": b""})
    layer = tar(
        file("d/new"),
        whiteout(".wh.gone", uid=5, gid=6),
        folder("o"),
        whiteout("o/.wh..wh..opq"),
        whiteout(".wh.never"),
    )
    bench.apply(layer, overlay(upper, work, lower))
    with upper.open() as root:
        marks = {name: root.lstat(f"/{name}") for name in ("gone", "never")}
        assert [(mark.type, mark.device) for mark in marks.values()] == [(FileType.CHAR, (0, 0))] * 2
        assert (marks["gone"].uid, marks["gone"].gid) == (5, 6)
        assert root.xattrs("/o")["trusted.overlay.opaque"] == b"y"
        assert sorted(path for path, _ in root.walk()) == ["/", "/d", "/d/new", "/gone", "/never", "/o"]
    assert lower.paths() == ["gone", "o", "o/old"]


@clause("DIF-015")
def test_the_whiteouts_of_an_overlay_hide_what_is_below(bench, mounted):
    """Rejects: marks that the overlay itself does not take for whiteouts."""
    upper, work, lower = bench.place(), bench.place(), bench.place({"gone": b"", "o/old": b"", "kept": b""})
    mounts = overlay(upper, work, lower)
    bench.apply(tar(whiteout(".wh.gone"), file("o/new"), whiteout("o/.wh..wh..opq")), mounts)
    with mounted(mounts) as root:
        assert [path for path, _ in root.walk()] == ["/", "/kept", "/o", "/o/new"]


@clause("DIF-016")
def test_implied_directories_of_an_overlay_look_like_those_below(bench):
    """Rejects: mode 0755 for what was private below, which opens it to everybody."""

    def first(root):
        root.mkdir("/d")
        root.lchown("/d", 11, 12)
        root.chmod("/d", 0o2770)
        root.setxattr("/d", "user.k", b"v")
        root.write("/p", b"a file where the other has a directory")

    def second(root):
        for name, mode in (("/e", 0o700), ("/p", 0o700), ("/d", 0o711)):
            root.mkdir(name, mode)

    upper, work = bench.place(), bench.place()
    layer = tar(file("d/new"), file("e/sub/g"), file("brandnew/x"), file("p/x"))
    bench.apply(layer, overlay(upper, work, bench.place(first), bench.place(second)))
    with upper.open() as root:
        seen = {name: root.lstat(f"/{name}") for name in ("d", "e", "e/sub", "brandnew", "p")}
        assert root.xattrs("/d")["user.k"] == b"v"
    assert {name: (stat.mode, stat.uid, stat.gid) for name, stat in seen.items()} == {
        "d": (0o2770, 11, 12),
        "e": (0o700, 0, 0),
        "e/sub": (0o755, 0, 0),
        "brandnew": (0o755, 0, 0),
        "p": (0o755, 0, 0),
    }


@clause("DIF-017")
@pytest.mark.parametrize(
    "layer", [tar(file("q"), whiteout(".wh.q")), tar(whiteout(".wh.k"), whiteout(".wh.k"))], ids=["a file", "a mark"]
)
def test_a_whiteout_of_what_the_upper_directory_has_is_refused(bench, layer):
    """Rejects: dropping the whiteout without a word, so that the file stays."""
    mounts = overlay(bench.place(), bench.place(), bench.place())
    assert isinstance(_refused(bench, layer, mounts), Unknown)


@clause("DIF-017")
def test_a_file_takes_the_place_of_a_whiteout_before_it(bench):
    """Rejects: opening the mark as if it were the file."""
    upper = bench.place()
    bench.apply(
        tar(whiteout(".wh.gone"), file("gone", b"1")), overlay(upper, bench.place(), bench.place({"gone": b""}))
    )
    assert upper.stat("/gone").type is FileType.FILE


@clause("DIF-018")
def test_an_aufs_branch_keeps_whiteouts_as_they_are_or_is_not_known(bench):
    """Rejects: marks of another file system in a branch of aufs."""
    upper, lower = bench.place(), bench.place()
    mount = Mount("aufs", "aufs", options=(f"br:{upper.path}=rw:{lower.path}=ro+wh",))
    try:
        bench.apply(tar(file("q"), whiteout(".wh.z")), [mount])
    except Unknown:
        assert upper.paths() == []
        pytest.skip("the subject knows no aufs, as from 2.x on")
    assert upper.paths() == [".wh.z", "q"]
