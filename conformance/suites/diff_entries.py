"""The differ, unpacking: what entries and whiteouts become (DIF-021 to DIF-034)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import gzip
import io
import tarfile
import time

import pytest

from conformance import clause
from conformance.suites._diff import (
    CAPABILITY,
    GZIP,
    TAR,
    attributes,
    bench,  # a fixture
    file,
    folder,
    hardlink,
    put,
    special,
    symlink,
    tar,
    whiteout,
)
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType
from refimpl.contract.times import SECOND

EARLY = 1_600_000_000
"""A time of files, in seconds."""


def _refused(bench, layer, onto, text=None):
    with pytest.raises(Unknown, match=text):
        bench.apply(layer, onto)


# --------------------------------------------------------------------------------------------------------- attributes


@clause("DIF-021")
@pytest.mark.parametrize(
    "entry,mode,uid,gid",
    [
        (file("e", mode=0o4755, uid=3, gid=4), 0o4755, 3, 4),
        (file("e", mode=0o2755, uid=3, gid=4), 0o2755, 3, 4),
        (file("e", mode=0), 0, 0, 0),
        (folder("e", mode=0o1777), 0o1777, 0, 0),
        (folder("e", mode=0o2777, uid=3, gid=4), 0o2777, 3, 4),
        (file("e", mode=0o666, uid=2_147_483_653, gid=3_000_000), 0o666, 2_147_483_653, 3_000_000),
        (file("e", mode=0o600, uid=3, gid=4, uname="root", gname="root"), 0o600, 3, 4),
    ],
    ids=["set-uid", "set-gid", "no bits", "sticky", "set-gid directory", "large ids", "names beside numbers"],
)
def test_modes_owners_and_times_are_those_of_the_entry(bench, entry, mode, uid, gid):
    """Rejects: an owner that is set last, which takes set-id bits away; bits that the umask takes away."""
    place = bench.place()
    bench.apply(tar((entry[0], {**entry[1], "mtime": EARLY})), place)
    stat = place.stat("/e")
    assert (oct(stat.mode), stat.uid, stat.gid, stat.mtime) == (oct(mode), uid, gid, EARLY * SECOND)


@clause("DIF-021")
def test_a_symlink_has_an_owner_and_times_and_its_text(bench):
    """Rejects: attributes that go to what the link leads to; a text that is tidied up."""
    place = bench.place({"there": b""})
    before = place.stat("/there")
    links = [symlink("abs", "/etc/passwd", uid=5, gid=6, mtime=EARLY), symlink("odd", "there/.././/there", uid=5)]
    bench.apply(tar(*links), place)
    with place.open() as root:
        stat = root.lstat("/abs")
        assert (stat.type, stat.uid, stat.gid, stat.mtime) == (FileType.SYMLINK, 5, 6, EARLY * SECOND)
        assert [root.readlink(path) for path in ("/abs", "/odd")] == ["/etc/passwd", "there/.././/there"]
        assert root.lstat("/there") == before


@clause("DIF-022")
@pytest.mark.parametrize(
    "fields,mtime,atime",
    [
        ({"pax_headers": {"mtime": "1400000000.123456789", "atime": "1500000000.5"}},
         1_400_000_000_123_456_789, 1_500_000_000_500_000_000),
        ({"pax_headers": {"mtime": "1400000000", "atime": "1300000000"}},
         1_400_000_000 * SECOND, 1_400_000_000 * SECOND),
        ({"pax_headers": {"mtime": "-100"}}, 0, 0),
        ({"pax_headers": {"mtime": "99999999999999"}}, 0, 0),
        ({"mtime": 1234}, 1234 * SECOND, 1234 * SECOND),
    ],
    ids=["nanoseconds", "atime before mtime", "before 1970", "after 2262", "no atime"],
)  # fmt: skip
def test_times_are_exact_and_within_what_a_file_can_have(bench, fields, mtime, atime):
    """Rejects: whole seconds only, so that a later comparison sees every file as changed."""
    place = bench.place()
    bench.apply(tar(file("f", **fields)), place)
    stat = place.stat("/f")
    assert (stat.mtime, stat.atime) == (mtime, atime)


@clause("DIF-023")
@pytest.mark.parametrize(
    "layer,path,mode,uid,mtime",
    [
        (tar(folder("d", mtime=EARLY), file("d/f")), "/d", 0o755, 0, EARLY),
        (tar(file("x/y"), folder("x", mode=0o701, uid=3, mtime=77)), "/x", 0o701, 3, 77),
        (tar(folder("a", mtime=5), folder("a/b", mtime=6), file("a/b/f"), file("a/g")), "/a/b", 0o755, 0, 6),
    ],
    ids=["before its files", "after its files", "in another"],
)
def test_a_directory_ends_with_the_time_of_its_entry(bench, layer, path, mode, uid, mtime):
    """Rejects: the time of the last file that was written into it."""
    place = bench.place()
    bench.apply(layer, place)
    stat = place.stat(path)
    assert (oct(stat.mode), stat.uid, stat.mtime) == (oct(mode), uid, mtime * SECOND)


@clause("DIF-023")
def test_a_directory_without_an_entry_is_new_and_roots(bench):
    """Rejects: the owner, the mode or the time of the file that it was made for."""
    before = time.time_ns()
    place = bench.place()
    bench.apply(tar(file("x/y/z", mode=0o600, uid=5, gid=6, mtime=7)), place)
    for path in ("/x", "/x/y"):
        stat = place.stat(path)
        assert (oct(stat.mode), stat.uid, stat.gid) == ("0o755", 0, 0)
        # A file system's clock may lag by a tick.
        assert stat.mtime > before - SECOND


@clause("DIF-024")
def test_a_hardlink_is_one_file_and_its_entry_speaks_for_it(bench):
    """Rejects: a copy; a link whose mode, owner and time are passed over."""
    place = bench.place()
    layer = tar(file("f", b"1", mode=0o600, uid=1), hardlink("h", "f", mode=0o755, uid=2, mtime=7))
    bench.apply(layer, place)
    with place.open() as root:
        one, other = root.lstat("/f"), root.lstat("/h")
    assert (one, one.links) == (other, 2)
    assert (oct(one.mode), one.uid, one.mtime) == ("0o755", 2, 7 * SECOND)


@clause("DIF-024")
@pytest.mark.parametrize(
    "existing,type",
    [("before", FileType.FILE), ("/before", FileType.FILE), ("link", FileType.SYMLINK), ("dir/link/f", FileType.FILE)],
)
def test_a_hardlink_may_name_what_was_there_before(bench, existing, type):
    """Rejects: links within one layer only; following a symlink that is itself what is meant."""
    place = bench.place({"before": b"1", "link": "before", "dir/link": "../real", "real/f": b"1"})
    bench.apply(tar(hardlink("h", existing)), place)
    with place.open() as root:
        stat = root.lstat("/h")
        meant = {"dir/link/f": "/real/f"}.get(existing, f"/{existing.strip('/')}")
        assert (stat.type, stat.links, stat.inode) == (type, 2, root.lstat(meant).inode)


@clause("DIF-024")
@pytest.mark.parametrize(
    "layer",
    [tar(hardlink("h", "missing")), tar(hardlink("h", "later"), file("later")), tar(folder("d"), hardlink("h", "d"))],
    ids=["missing", "later", "a directory"],
)
def test_a_hardlink_to_what_cannot_be_linked_is_an_error(bench, layer):
    """Rejects: an empty file in place of the link."""
    place = bench.place()
    _refused(bench, layer, place)
    assert "h" not in place.paths()


@clause("DIF-025", needs={"mknod"})
@pytest.mark.parametrize(
    "type,fields,kind,device",
    [
        (tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3, "mode": 0o666}, FileType.CHAR, (1, 3)),
        (tarfile.CHRTYPE, {"devmajor": 5, "devminor": 70_000, "mode": 0o600}, FileType.CHAR, (5, 70_000)),
        (tarfile.BLKTYPE, {"devmajor": 7, "devminor": 200, "mode": 0o660, "gid": 6}, FileType.BLOCK, (7, 200)),
        (tarfile.FIFOTYPE, {"mode": 0o600, "uid": 5}, FileType.FIFO, (0, 0)),
    ],
    ids=["character device", "large minor number", "block device", "fifo"],
)
def test_devices_and_fifos_are_made(bench, type, fields, kind, device):
    """Rejects: device numbers of eight bits, or a file in place of a node."""
    place = bench.place()
    bench.apply(tar(special("n", type, mtime=9, **fields)), place)
    stat = place.stat("/n")
    assert (stat.type, stat.device, oct(stat.mode)) == (kind, device, oct(fields["mode"]))
    assert (stat.uid, stat.gid, stat.mtime) == (fields.get("uid", 0), fields.get("gid", 0), 9 * SECOND)


@clause("DIF-026", needs={"xattr"})
def test_attributes_of_users_and_of_security_are_set_and_trusted_ones_never(bench):
    """Rejects: honouring trusted.overlay.opaque from an archive, which hides the layers below."""
    place = bench.place()
    capability = CAPABILITY.decode("latin-1")
    layer = tar(
        file("x", **attributes(user__foo="bar", security__capability=capability, trusted__evil="1")),
        folder("p", **attributes(user__foo="bar", trusted__overlay__opaque="y")),
    )
    bench.apply(layer, place)
    with place.open() as root:
        assert dict(root.xattrs("/x")) == {"user.foo": b"bar", "security.capability": CAPABILITY}
        assert dict(root.xattrs("/p")) == {"user.foo": b"bar"}


@clause("DIF-026", needs={"xattr"})
@pytest.mark.parametrize(
    "entry",
    [
        special("e", tarfile.FIFOTYPE, mode=0o600, **attributes(user__a="1")),
        symlink("e", "x", **attributes(user__a="1")),
        file("e", **attributes(bogus__a="1")),
    ],
    ids=["of a fifo", "of a symlink", "of no known kind"],
)
def test_an_attribute_that_cannot_be_is_left_out(bench, entry):
    """Rejects: failing a whole layer for an attribute that the file system does not keep."""
    place = bench.place()
    bench.apply(tar(entry), place)
    with place.open() as root:
        assert not {"user.a", "bogus.a"} & set(root.xattrs("/e"))


# ------------------------------------------------------------------------------------------------ in whose place


@clause("DIF-027")
@pytest.mark.parametrize(
    "before,layer,after",
    [
        ({"t/inner": b""}, tar(file("t")), {"t": FileType.FILE}),
        ({"t": b""}, tar(folder("t")), {"t": FileType.DIRECTORY}),
        ({"t/inner": b""}, tar(folder("t")), {"t": FileType.DIRECTORY, "t/inner": FileType.FILE}),
        ({"t/inner": b""}, tar(symlink("t", "x")), {"t": FileType.SYMLINK}),
        ({"t": b""}, tar(special("t", tarfile.FIFOTYPE)), {"t": FileType.FIFO}),
        ({"t": "real", "real": None}, tar(folder("t"), file("t/f")),
         {"real": FileType.DIRECTORY, "t": FileType.DIRECTORY, "t/f": FileType.FILE}),
    ],
    ids=["file over directory", "directory over file", "directory over directory", "symlink over directory",
         "fifo over file", "directory over symlink to a directory"],
)  # fmt: skip
def test_an_entry_takes_the_place_of_what_was_there(bench, before, layer, after):
    """Rejects: following a symlink that the entry should replace; removing what a directory holds."""
    place = bench.place(before)
    bench.apply(layer, place)
    with place.open() as root:
        assert {path.strip("/"): stat.type for path, stat in root.walk() if path != "/"} == after


@clause("DIF-027")
def test_a_directory_over_a_directory_changes_its_attributes(bench):
    """Rejects: leaving a directory as it is because it is there."""
    place = bench.place({"t/inner": b""})
    bench.apply(tar(folder("t", mode=0o711, uid=7, mtime=1234)), place)
    stat = place.stat("/t")
    assert (oct(stat.mode), stat.uid, stat.mtime) == ("0o711", 7, 1234 * SECOND)


@clause("DIF-027")
def test_other_names_of_a_replaced_file_keep_its_content(bench):
    """Rejects: opening the old file and writing into it, which its other names see as well."""

    def fill(root):
        put(root, "/f", b"old")
        root.link("/f", "/peer")

    place = bench.place(fill)
    bench.apply(tar(file("f", b"new")), place)
    assert (place.read("/f"), place.read("/peer")) == (b"new", b"old")


@clause("DIF-027")
def test_of_two_entries_of_a_name_the_last_one_counts(bench):
    """Rejects: the rest of a longer first content behind a shorter last one."""
    place = bench.place()
    bench.apply(tar(file("f", b"the first one"), file("f", b"last"), file("g"), folder("g"), file("g/h")), place)
    assert (place.read("/f"), place.paths()) == (b"last", ["f", "g", "g/h"])


@clause("DIF-028")
def test_entries_for_the_root_itself_change_nothing(bench):
    """Rejects: a snapshot's root directory with the mode or the time that an archive gives to './'."""
    place = bench.place()
    before = place.stat("/")
    layer = tar(folder("./", mode=0o700, uid=9, mtime=1), folder(".", mode=0o700), folder("/", mode=0o700), file("./f"))
    bench.apply(layer, place)
    after = place.stat("/")
    assert place.paths() == ["f"]
    assert (after.mode, after.uid, after.gid) == (before.mode, before.uid, before.gid)
    assert after.mtime >= before.mtime, "that of the file which was made in it"


@clause("DIF-029")
@pytest.mark.parametrize(
    "name,form",
    [
        (f"{'a' * 90}/{'b' * 90}", tarfile.USTAR_FORMAT),
        ("n" * 200, tarfile.GNU_FORMAT),
        (f"{'d' * 150}/{'e' * 200}", tarfile.PAX_FORMAT),
        ("grün/ключ/鍵", tarfile.PAX_FORMAT),
        ("grün", tarfile.GNU_FORMAT),
    ],
    ids=["ustar with prefix", "GNU long name", "PAX long name", "PAX non-ASCII", "GNU non-ASCII"],
)
def test_names_are_whole_in_every_dialect(bench, name, form):
    """Rejects: names that are cut at a hundred bytes."""
    place = bench.place()
    text = name[:100] if form == tarfile.USTAR_FORMAT else name  # which splits names only
    bench.apply(tar(file(name), symlink("link", text), form=form), place)
    with place.open() as root:
        assert root.exists(f"/{name}")
        assert root.readlink("/link") == text


def _sparse(version):
    """An archive of a file of 10 MiB with two bytes at 5000000, in a form of GNU tar's for PAX."""
    size, at = 10 << 20, 5_000_000
    headers = {"GNU.sparse.realsize" if version == "1.0" else "GNU.sparse.size": str(size), "GNU.sparse.name": "sparse"}
    data = b"hi"
    if version == "1.0":
        headers |= {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        # The map precedes the content, padded to a block.
        data = f"1\n{at}\n2\n".encode().ljust(512, b"\0") + data
    else:
        headers |= {"GNU.sparse.numblocks": "1", "GNU.sparse.map": f"{at},2"}
    return tar(file("GNUSparseFile.1/sparse", data, pax_headers=headers))


@clause("DIF-029")
@pytest.mark.parametrize("version", ["0.1", "1.0"])
def test_sparse_files_have_their_content(bench, version):
    """Rejects: a map that is taken for content, or holes that are left out."""
    place = bench.place()
    bench.apply(_sparse(version), place)
    data = place.read("/sparse")
    assert (len(data), data.strip(b"\0"), data.index(b"hi")) == (10 << 20, b"hi", 5_000_000)


@clause("DIF-029")
def test_a_global_header_is_passed_over(bench):
    """Rejects: a file of its name."""
    place = bench.place()
    out = io.BytesIO()
    headers = {"comment": "0123456789abcdef"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        archive.addfile(tarfile.TarInfo("f"), io.BytesIO())
    bench.apply(out.getvalue(), place)
    assert place.paths() == ["f"]


@clause("DIF-029")
@pytest.mark.parametrize("type", [b"S", b"Z", b"7"], ids=["old GNU sparse", "unknown", "contiguous"])
def test_an_entry_of_an_unknown_type_is_an_error(bench, type):
    """Rejects: a layer that is taken to be whole without what nobody understood."""
    place = bench.place()
    _refused(bench, tar(file("before"), special("e", type)), place)
    assert "e" not in place.paths()


@clause("DIF-030")
@pytest.mark.parametrize("size", [3 << 20, (3 << 20) + 1])
def test_zeros_are_content(bench, size):
    """Rejects: a file that ends where its last hole begins."""
    place = bench.place()
    bench.apply(gzip.compress(tar(file("zeros", bytes(size)))), place, GZIP)
    assert place.read("/zeros") == bytes(size)


# ----------------------------------------------------------------------------------------------------------- whiteouts


@clause("DIF-031")
def test_a_whiteout_removes_what_it_names(bench):
    """Rejects: whiteouts left in the tree as files; a removal that takes neighbours along."""
    place = bench.place({"gone": b"", "d/sub/x": b"", "d/stay": b"", "link": "d"})
    bench.apply(tar(whiteout(".wh.gone"), whiteout("d/.wh.sub"), whiteout(".wh.link")), place)
    assert place.paths() == ["d", "d/stay"]


@clause("DIF-031")
def test_a_whiteout_of_nothing_is_nothing(bench):
    """Rejects: an error for what is not there anyway."""
    place = bench.place({"stays": b""})
    bench.apply(tar(whiteout(".wh.notthere")), place)
    assert place.paths() == ["stays"]


@clause("DIF-032")
@pytest.mark.parametrize(
    "layer,left",
    [
        (tar(file("d/new"), whiteout("d/.wh..wh..opq"), file("d/new2")), ["d", "d/new", "d/new2", "top"]),
        (tar(folder("d/sub"), file("d/sub/new"), whiteout("d/.wh..wh..opq")), ["d", "d/sub", "d/sub/new", "top"]),
        (tar(whiteout("nd/.wh..wh..opq")), ["d", "d/old", "d/sub", "d/sub/old", "nd", "top"]),
        (tar(whiteout(".wh..wh..opq"), file("n")), ["n"]),
    ],
    ids=["between its files", "below it", "a new directory", "the root"],
)
def test_an_opaque_directory_keeps_only_what_its_layer_has_written(bench, layer, left):
    """Rejects: removing what the same layer has put there before the mark."""
    place = bench.place({"d/old": b"", "d/sub/old": b"", "top": b""})
    bench.apply(layer, place)
    assert place.paths() == left


@clause("DIF-033")
@pytest.mark.parametrize(
    "before,layer,after",
    [
        ({"f/sub": b""}, tar(whiteout(".wh.f"), file("f")), ["f"]),
        ({}, tar(file("f"), whiteout(".wh.f")), []),
        ({"f": b""}, tar(whiteout(".wh.f"), file("f"), whiteout(".wh.f")), []),
    ],
    ids=["whiteout first", "whiteout last", "both"],
)
def test_whiteouts_and_entries_act_in_their_order(bench, before, layer, after):
    """Rejects: whiteouts that are gathered and carried out at the end, or all of them first."""
    place = bench.place(before)
    bench.apply(layer, place)
    assert place.paths() == after


@clause("DIF-034")
@pytest.mark.parametrize("name", [".wh.", "a/.wh..", "a/.wh..."])
def test_a_whiteout_that_would_climb_is_refused(bench, name):
    """Rejects: '.wh...' removing the directory above."""
    place = bench.place({"a/x": b"", "x": b""})
    _refused(bench, tar(whiteout(name)), place, "invalid whiteout name")
    assert place.paths() == ["a", "a/x", "x"]


@clause("DIF-034")
def test_other_names_of_aufs_are_whiteouts_like_any(bench):
    """Rejects: making the directories that aufs keeps for itself."""
    place = bench.place({".wh.aufs": b""})
    bench.apply(tar(folder(".wh..wh.plnk"), whiteout(".wh..wh.aufs"), folder(".wh..wh.orph")), place)
    assert place.paths() == []
