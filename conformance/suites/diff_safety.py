"""The differ, unpacking what nobody vouches for: nothing leaves the root, damage is an error (DIF-035 to DIF-041)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import gzip
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from conformance import clause
from conformance.suites._content import digest_of
from conformance.suites._diff import (
    GZIP,
    SERVICE,
    SIMPLE,
    TAR,
    ZSTD,
    bench,  # a fixture
    file,
    folder,
    hardlink,
    picture,
    symlink,
    tar,
    whiteout,
)
from refimpl.api import diff_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType

RANDOM = random.Random(1).randbytes(50_000)
"""Bytes that no compressor makes shorter."""


@pytest.fixture
def outside(bench):
    """A directory beside the one that is written to, with something to steal; nothing may have changed it."""
    place = bench.place({"victim": b"precious", "inner/more": b""})
    with place.open() as root:
        before = picture(root)
    yield place
    with place.open() as root:
        assert picture(root) == before, "something outside the root was changed"


def _refused(bench, layer, onto, media_type=TAR):
    with pytest.raises(Unknown):
        bench.apply(layer, onto, media_type)


def _up(path):
    """A relative way to an absolute path, over a root that may be anywhere."""
    return "../" * 40 + path.strip("/")


# ------------------------------------------------------------------------------------------------------ out of the root


@clause("DIF-035")
def test_dots_and_slashes_in_a_name_stay_inside(bench, outside):
    """Rejects: joining the name to the root as it stands."""
    place = bench.place()
    names = ["../../../../escape", "a/../../b", "/absfile", "//c/./d"]
    bench.apply(tar(*(file(name) for name in names)), place)
    assert place.paths() == ["absfile", "b", "c", "c/d", "escape"]


@clause("DIF-035")
@pytest.mark.parametrize("way", ["absolute", "relative"])
@pytest.mark.parametrize("planted", ["by the layer", "before"])
def test_a_symlink_out_of_the_root_leads_inside(bench, outside, way, planted):
    """Rejects: following on the host what an earlier entry, or an earlier layer, has planted."""
    there = {"absolute": outside.path, "relative": _up(outside.path)}[way]
    place = bench.place({"l": there} if planted == "before" else None)
    links = [symlink("l", there)] if planted == "by the layer" else []
    bench.apply(tar(*links, file("l/pwn"), folder("l/dir"), file("l/inner/new"), file("l/victim", b"over")), place)
    with place.open() as root:
        inside = [path for path, stat in root.walk() if stat.type is FileType.FILE]
    assert inside == sorted(f"{outside.path}/{name}" for name in ("inner/new", "pwn", "victim"))


@clause("DIF-035")
def test_a_symlink_at_the_end_of_a_name_is_replaced(bench, outside):
    """Rejects: writing through it."""
    place = bench.place()
    bench.apply(tar(symlink("l", f"{outside.path}/victim"), file("l", b"over", mode=0o777, uid=9)), place)
    assert (place.stat("/l").type, place.read("/l")) == (FileType.FILE, b"over")


@clause("DIF-035")
@pytest.mark.parametrize("name", ["l/.wh.victim", "l/.wh.inner", "l/.wh..wh..opq"])
def test_a_whiteout_behind_a_symlink_removes_nothing_outside(bench, outside, name):
    """Rejects: a removal that follows the symlink on the host."""
    place = bench.place({"l": outside.path})
    bench.apply(tar(whiteout(name)), place)
    with place.open() as root:
        assert root.readlink("/l") == outside.path


@clause("DIF-036")
def test_symlinks_inside_the_root_are_followed_and_stay(bench):
    """Rejects: a directory in place of the symlink, which breaks images whose /bin is one."""
    place = bench.place({"before": "real", "nested/up": "../real"})
    layer = tar(
        folder("real"),
        symlink("lnk", "real"),
        file("lnk/f"),
        symlink("abslnk", "/real"),
        file("abslnk/g"),
        file("before/h"),
        file("nested/up/i"),
    )
    bench.apply(layer, place)
    with place.open() as root:
        assert root.listdir("/real") == ["f", "g", "h", "i"]
        links = {path: root.readlink(path) for path in ("/lnk", "/abslnk", "/before", "/nested/up")}
    assert links == {"/lnk": "real", "/abslnk": "/real", "/before": "real", "/nested/up": "../real"}


@clause("DIF-037")
@pytest.mark.parametrize("way", ["dots", "absolute", "symlink"])
def test_a_hardlink_does_not_reach_outside(bench, outside, way):
    """Rejects: a container with a hard link to a file of the host."""
    place = bench.place()
    existing = {
        "dots": f"{_up(outside.path)}/victim", "absolute": f"{outside.path}/victim", "symlink": "l/victim"
    }  # fmt: skip
    layer = tar(symlink("l", outside.path), hardlink("h", existing[way], mode=0o777, uid=9))
    _refused(bench, layer, place)
    assert outside.stat("/victim").links == 1
    assert "h" not in place.paths()


@clause("DIF-038")
@pytest.mark.parametrize(
    "layer", [tar(symlink("a", "b"), symlink("b", "a"), file("a/f")), tar(symlink("s", "s/x"), file("s/f"))]
)
def test_symlinks_in_a_ring_are_an_error(bench, layer):
    """Rejects: resolving them without end."""
    started = time.monotonic()
    place = bench.place()
    _refused(bench, layer, place)
    # A limit is found in milliseconds; whoever has none does not come back at all.
    assert time.monotonic() - started < 30
    assert all(place.stat(path).type is FileType.SYMLINK for path in place.paths())


@clause("DIF-038")
@pytest.mark.parametrize("name", ["p/f", "p/q/f", "p/.wh.f"])
def test_a_file_is_no_parent(bench, name):
    """Rejects: a directory in the place of the file."""
    place = bench.place()
    _refused(bench, tar(file("p", b"1"), file(name)), place)
    assert (place.paths(), place.read("/p")) == (["p"], b"1")


# --------------------------------------------------------------------------------------------------------------- damage


@clause("DIF-039")
@pytest.mark.parametrize(
    "layer,media_type",
    [
        (tar(file("f", RANDOM[:5000]))[:2000], TAR),
        (tar(file("f", RANDOM[:5000]))[:700], TAR),
        (tar(file("f"))[:300], TAR),
        (RANDOM[:4096], TAR),
        (tar(file("f", RANDOM[:500]))[:1024] + RANDOM[:512] + bytes(1024), TAR),
        (gzip.compress(tar(file("f", RANDOM)))[:20000], GZIP),
        (gzip.compress(tar(file("f", RANDOM)))[:-8] + bytes(8), GZIP),
        (zstandard.compress(tar(file("f", RANDOM)))[:-5], ZSTD),
    ],
    ids=["cut in a file", "cut in its first block", "cut in a header", "random bytes", "random bytes behind a file",
         "gzip cut", "gzip with a wrong sum", "zstd cut"],
)  # fmt: skip
def test_a_damaged_stream_is_an_error(bench, layer, media_type):
    """Rejects: a short read that is taken for the end of the archive, and told as success."""
    _refused(bench, layer, bench.place(), media_type)


@clause("DIF-039")
def test_what_came_before_the_damage_stays(bench):
    """Rejects: a clean-up that takes along what was there before the call."""
    place = bench.place({"older": b""})
    _refused(bench, tar(file("first", RANDOM[:100]), file("second", RANDOM[:5000]))[:2500], place)
    assert {"first", "older"} <= set(place.paths())
    assert place.read("/first") == RANDOM[:100]


@clause("DIF-039")
@pytest.mark.parametrize("end", [1024, 1536], ids=["after the file", "one block of zeros"])
def test_an_archive_may_end_without_its_mark(bench, end):
    """Rejects: insisting on the blocks of zeros, which some writers leave out."""
    place, layer = bench.place(), tar(file("f", b"whole"))[:end]
    assert bench.apply(layer, place).digest == digest_of(layer)
    assert place.read("/f") == b"whole"


# ------------------------------------------------------------------------------------------------------ again and again


@clause("DIF-040")
def test_a_layer_can_be_unpacked_twice(bench):
    """Rejects: a second time that fails, or changes something."""
    place = bench.place()
    links = [hardlink("h", "f0"), symlink("s", "f1"), folder("d", mode=0o700, mtime=7), file("d/x"), whiteout(".wh.d2")]
    layer = tar(*(file(f"f{n}", b"%d" % n, mtime=5) for n in range(50)), *links)
    first = bench.apply(layer, place)
    with place.open() as root:
        before = picture(root)
    assert bench.apply(layer, place) == first
    with place.open() as root:
        assert picture(root) == before


@clause("DIF-040")
def test_a_layer_can_be_unpacked_in_many_places_at_once(bench):
    """Rejects: one mount point for all calls."""
    layer = tar(*(file(f"f{n}") for n in range(50)))
    places = [bench.place() for _ in range(6)]
    bench.store(layer)
    with ThreadPoolExecutor(len(places)) as pool:
        answers = set(map(repr, pool.map(lambda place: bench.apply(layer, place), places)))
    assert len(answers) == 1
    assert [len(place.paths()) for place in places] == [50] * 6


@clause("DIF-041")
def test_a_request_may_ask_for_a_flushed_tree(bench, wire):
    """Rejects: an error for a field that the server does not know."""
    place = bench.place()
    mount = place.mounts[0]
    request = pb.ApplyRequest(
        diff=types_pb2.Descriptor(media_type=TAR, digest=bench.store(SIMPLE), size=len(SIMPLE)),
        mounts=[types_pb2.Mount(type=mount.type, source=mount.source, options=mount.options)],
        sync_fs=True,
    )
    answer = wire.call(f"{SERVICE}/Apply", request, namespace=bench.ctx.namespace)
    assert (answer.code, answer.messages[0].applied.digest) == ("OK", digest_of(SIMPLE))
    assert place.paths() == ["a"]
