"""Unpacking layers: a table of archives, each unpacked by us on the fake host and by the real daemon on the disk.

The table is the clauses DIF-021 to DIF-039 in examples. Where there is no real daemon, what it did is recorded below.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from refimpl.archive.apply import apply_layer
from refimpl.archive.stream import ByteStream
from refimpl.archive.whiteouts import LiteralWhiteouts, OverlayWhiteouts
from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.fs_view import View
from refimpl.backends.fake.host import FakeHost
from refimpl.client import Client
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, ContainerdError, Unknown
from refimpl.contract.mounts import FileType, Mount, RootFS
from refimpl.contract.types import Descriptor
from tests.acceptance.daemons import containerd, running
from tests.archive.archives import Entry, archive, directory, file, hardlink, special, symlink, whiteout
from tests.backends.fake.trees import dump, load

CTX = CallContext()
TAR = "application/vnd.oci.image.layer.v1.tar"

BASE: Sequence[Entry] = (
    directory("d"),
    file("d/old"),
    directory("d/sub"),
    file("d/sub/old"),
    file("f", b"base"),
    hardlink("f2", "f"),
    symlink("abs", "/d"),
    symlink("rel", "d"),
    symlink("esc", "../../../tmp"),
    symlink("dang", "nowhere"),
    directory("e"),
    file("e/x"),
)

GOOD: dict[str, Sequence[Entry]] = {
    "nothing": (),
    "replacing": (file("f", b"new", mode=0o4711, uid=5, gid=6, mtime=5), directory("f2"), file("d", b"a file now")),
    "symlinks as parents": (file("abs/a"), file("rel/r"), file("esc/out"), file("dang/x")),
    "symlinks replaced": (file("abs"), directory("rel"), file("dang")),
    "opaque": (file("d/new"), whiteout("d/.wh..wh..opq"), file("d/later")),
    "opaque with a directory that is only implied": (file("d/q/new"), whiteout("d/.wh..wh..opq")),
    "opaque with a directory that is kept": (directory("d/sub"), file("d/sub/new"), whiteout("d/.wh..wh..opq")),
    "opaque root": (file("n"), whiteout(".wh..wh..opq")),
    "opaque in a missing directory": (whiteout("nd/.wh..wh..opq"), file("nd/x")),
    "whiteouts": (whiteout(".wh.d"), whiteout("e/.wh.x"), whiteout("e/.wh.none"), whiteout(".wh.abs")),
    "whiteout before its file": (whiteout(".wh.f"), file("f", b"2")),
    "names of aufs": (whiteout(".wh..wh.aufs"), directory(".wh..wh.plnk")),
    "whiteout through a symlink": (whiteout("rel/.wh.old"),),
    "dots": (file("./a"), file("../../b"), file("/c"), file("d/../zz"), directory("./"), file("x//y"), file("no/../w")),
    "modes and owners": (
        directory("t", mode=0o1777),
        file("m", mode=0o6755, uid=3_000_000, gid=4_294_967_294),
        symlink("ln", "x", uid=7, gid=8, mtime=9),
        special("ff", tarfile.FIFOTYPE, mode=0o640),
        special("c", tarfile.CHRTYPE, devmajor=5, devminor=300, mode=0o666),
        special("b", tarfile.BLKTYPE, devmajor=8, devminor=1),
    ),
    "times": (
        file("t1", pax_headers={"mtime": "-5"}),
        file("t2", pax_headers={"mtime": "1.123456789"}),
        file("t3", pax_headers={"mtime": "99999999999"}),
        file("t4", mtime=100, pax_headers={"atime": "200.5"}),
    ),
    "times of directories": (directory("dt", mtime=55), file("dt/x"), file("du/y"), directory("du", mtime=66)),
    "attributes": (
        file("x", pax_headers={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y"}),
        directory("xd", pax_headers={"SCHILY.xattr.user.d": "2"}),
        symlink("xs", "q", pax_headers={"SCHILY.xattr.user.d": "2"}),
    ),
    "long names": (file("L" * 200), file("a" * 90 + "/" + "b" * 90 + "/c"), file("ünï"), symlink("ll", "t" * 200)),
    "a global header": (special("pax_global_header", tarfile.XGLTYPE), file("after")),
    "one name again and again": (file("q", b"1"), file("q", b"2"), directory("q"), file("q/x"), file("q", b"3")),
    "an empty name": (file(""),),
}

ON_A_PLAIN_TREE: dict[str, Sequence[Entry]] = {
    "file before its whiteout": (file("g"), whiteout(".wh.g")),
    "hardlinks": (
        hardlink("h1", "f", mode=0o600, uid=9, mtime=77),
        hardlink("h2", "/d/old"),
        hardlink("h3", "dang"),
        hardlink("h4", "abs/old"),
        hardlink("h5", "../f"),
    ),
}

BAD: dict[str, tuple[Sequence[Entry], str]] = {
    "hardlink to a directory": ((hardlink("h", "d"),), "operation not permitted"),
    "hardlink out of the root": ((hardlink("h", "esc/passwd"),), "no such file or directory"),
    "a file as parent": ((file("f/x"),), "not a directory"),
    "symlinks in a ring": ((symlink("l1", "l2"), symlink("l2", "l1"), file("l1/x")), "too many links"),
    "whiteout of nothing": ((whiteout(".wh."),), "invalid whiteout name: .wh.: invalid archive"),
    "whiteout of itself": ((whiteout("d/.wh.."),), "invalid whiteout name: .wh..: invalid archive"),
    "whiteout of the parent": ((whiteout(".wh..."),), "invalid whiteout name: .wh...: invalid archive"),
    "an unknown type": ((special("x", b"Z"),), "unhandled tar header type 90"),
    "a contiguous file": ((special("x", b"7"),), "unhandled tar header type 55"),
    "a symlink without text": ((symlink("el", ""),), "no such file or directory"),
    "a name that is too long": ((file("n" * 300),), "file name too long"),
}


def unpacked(fs: RootFS, data: bytes, **options: object) -> None:
    chunks = [data[at : at + 700] for at in range(0, len(data), 700)]
    apply_layer(CTX, fs, ByteStream(chunks), **options)  # type: ignore[arg-type]


@pytest.fixture
def fs() -> View:
    fs = FakeHost(FakeClock()).fs
    unpacked(fs, archive(*BASE))
    return fs


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_layer_is_refused_in_containerds_words(fs: View, name: str) -> None:
    entries, text = BAD[name]
    with pytest.raises(Unknown, match=text.replace(".", r"\.") + "$"):
        unpacked(fs, archive(*entries))


def test_nothing_leaves_the_root() -> None:
    host = FakeHost(FakeClock())
    for name in ("jail", "tmp", "d"):
        host.fs.mkdir(f"/{name}")
    host.fs.write("/secret", b"")
    jail = host.fs.below("/jail")
    unpacked(jail, archive(*BASE))
    for name in ("symlinks as parents", "dots"):
        unpacked(jail, archive(*GOOD[name]))
    with pytest.raises(Unknown):
        unpacked(jail, archive(hardlink("h", "../secret")))
    assert host.fs.listdir("/") == ["d", "jail", "secret", "tmp"]
    assert host.fs.listdir("/tmp") == host.fs.listdir("/d") == []
    assert jail.exists("/tmp/out"), "what a symlink names outside is made inside"


def test_applying_twice_gives_the_same_tree(fs: View) -> None:
    data = archive(*GOOD["replacing"], *GOOD["modes and owners"])
    unpacked(fs, data)
    before = dump(fs, times_before=EPOCH)
    unpacked(fs, data)
    assert dump(fs, times_before=EPOCH) == before


def test_whiteouts_become_the_overlays_marks_in_an_upper_directory(fs: View) -> None:
    entries = (("d/.wh.x", {"uid": 3, "gid": 4}), whiteout("new/.wh..wh..opq"))
    unpacked(fs, archive(*entries), whiteouts=OverlayWhiteouts())
    stat = fs.lstat("/d/x")
    assert (stat.type, stat.device, stat.uid, stat.gid) == (FileType.CHAR, (0, 0), 3, 4)
    assert fs.xattrs("/new") == {"trusted.overlay.opaque": b"y"}
    with pytest.raises(Unknown, match=r'failed to convert whiteout file "d/\.wh\.x": file exists'):
        unpacked(fs, archive(*entries), whiteouts=OverlayWhiteouts())


def test_whiteouts_stay_as_they_are_in_an_aufs_branch(fs: View) -> None:
    unpacked(fs, archive(whiteout(".wh.f")), whiteouts=LiteralWhiteouts())
    assert fs.exists("/f")
    assert fs.exists("/.wh.f")


def test_where_nobody_can_make_devices_they_are_left_out(fs: View) -> None:
    null, disk = (
        special(n, t, devmajor=1, devminor=3) for n, t in (("f", tarfile.CHRTYPE), ("new/b", tarfile.BLKTYPE))
    )
    unpacked(fs, archive(null, disk, special("pipe", tarfile.FIFOTYPE)), devices=False)
    assert fs.read("/f") == b"base", "what is in its place stays"
    assert not fs.exists("/new")
    assert fs.lstat("/pipe").type is FileType.FIFO


def test_a_damaged_archive_leaves_what_came_before_the_damage(fs: View) -> None:
    data = archive(file("first"), file("second", b"y" * 2000))
    with pytest.raises(Unknown, match="unexpected EOF"):
        unpacked(fs, data[:2000])
    assert fs.read("/first") == b"x"


def test_a_caller_who_goes_away_stops_the_work(fs: View) -> None:
    cancel = CancelToken()
    data = archive(file("first"), file("second"))

    def chunks() -> list[bytes]:
        return [data[:1024], data[1024:]]

    cancel.cancel()
    with pytest.raises(Canceled):
        apply_layer(CallContext(cancel=cancel), fs, ByteStream(chunks()))
    assert not fs.exists("/first")


# --- the real daemon


@pytest.mark.root
@pytest.mark.debian("containerd")
@pytest.mark.parametrize("overlay", [False, True], ids=["plain", "overlay"])
def test_the_real_daemon_makes_the_same_trees(tmp_path: Path, overlay: bool) -> None:
    numbers = itertools.count()
    cases = dict(GOOD) if overlay else GOOD | ON_A_PLAIN_TREE
    with running(containerd(tmp_path)) as daemon, Client(str(daemon.socket)) as client:
        for form, entries in itertools.product((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT), cases.values()):
            _compare(client, tmp_path / f"tree{next(numbers)}", archive(*entries, form=form), overlay=overlay)
        if not overlay:
            for name, (entries, text) in BAD.items():
                target = tmp_path / f"tree{next(numbers)}"
                target.mkdir()
                _apply(client, archive(*BASE), [_bind(target)])
                with pytest.raises(ContainerdError, match=text.replace(".", r"\.")) as error:
                    _apply(client, archive(*entries), [_bind(target)])
                assert error.type is Unknown, name


def _bind(path: Path) -> Mount:
    return Mount("bind", str(path), options=("rbind", "rw"))


def _apply(client: Client, data: bytes, mounts: Sequence[Mount]) -> None:
    ctx = CallContext("default")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with client_content(client, ctx, digest, data):
        client.diff.apply(ctx, Descriptor(TAR, digest, len(data)), mounts)


class client_content:  # noqa: N801 - read as a statement
    """A blob, for as long as it is used."""

    def __init__(self, client: Client, ctx: CallContext, digest: str, data: bytes) -> None:
        self._client, self._ctx, self._digest, self._data = client, ctx, digest, data

    def __enter__(self) -> None:
        writer = self._client.content.writer(self._ctx, self._digest, total=len(self._data))
        writer.write(self._data)
        writer.commit(self._ctx, len(self._data), self._digest, {"containerd.io/gc.root": "test"})

    def __exit__(self, *_: object) -> None:
        self._client.content.delete(self._ctx, self._digest)


def _compare(client: Client, real: Path, data: bytes, *, overlay: bool) -> None:
    host = FakeHost()
    start = time.time_ns() - 3600 * 10**9
    real.mkdir(mode=0o755)
    if overlay:
        for name in ("lower", "upper", "work"):
            (real / name).mkdir()
            host.fs.mkdir(f"/{name}")
        (real / "lower/d/sub").mkdir(parents=True)
        (real / "lower/d").chmod(0o750)
        os.chown(real / "lower/d", 4, 5)
        os.setxattr(real / "lower/d", "user.k", b"v")
        (real / "lower/e").write_bytes(b"")
        load(real / "lower", host.fs.below("/lower"))
        options = tuple(f"{name}dir={real}/{name}" for name in ("upper", "work", "lower"))
        _apply(client, data, [Mount("overlay", "overlay", options=options)])
        fake = host.fs.below("/upper")
        unpacked(fake, data, whiteouts=OverlayWhiteouts(), parents=[host.fs.below("/lower")])
        real /= "upper"
    else:
        fake = host.fs
        for each in (archive(*BASE), data):
            _apply(client, each, [_bind(real)])
            unpacked(fake, each)
    copy = FakeHost()
    load(real, copy.fs)
    assert dump(fake, times_before=start) == dump(copy.fs, times_before=start)
