"""Archives that somebody made to do harm, or that broke on the way: what each must come to.

``CASES`` is the corpus. Each is unpacked on a fake host, on the real disk and by the real containerd; none of them may
change anything outside the target, and the error is the one that containerd gives. ``OUTSIDE`` in a name or a link
stands for the directory that must stay as it is.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from tests.archive.archives import Entry, archive, directory, file, hardlink, special, symlink, whiteout

BLOCK = 512
OUTSIDE = "@OUTSIDE@"


@dataclass(frozen=True)
class Case:
    """One archive.

    Attributes:
        parts: entries and raw bytes, in order.
        error: what the error's text ends with; empty for an archive that unpacks.
        before: what is in the target already.
        end: whether the mark of the end follows.
    """

    parts: Sequence[Entry | bytes]
    error: str = ""
    before: Sequence[Entry] = ()
    end: bool = True

    @property
    def deep(self) -> bool:
        """Whether ``DEEP`` is unpacked: in an overlay it takes containerd ten seconds."""
        return any(part[0] == DEEP for part in [*self.parts, *self.before])

    def data(self, outside: str) -> bytes:
        """The archive, with the directory that must stay as it is at ``outside``."""
        data = b"".join(part if isinstance(part, bytes) else _entry(part, outside) for part in self.parts)
        return data + bytes(2 * BLOCK) * self.end

    def data_before(self, outside: str) -> bytes:
        """An archive of what is there before."""
        return archive(*(_placed(entry, outside) for entry in self.before))


def _placed(entry: Entry, outside: str) -> Entry:
    name, fields = entry
    if "linkname" in fields:
        fields = {**fields, "linkname": fields["linkname"].replace(OUTSIDE, outside)}
    return name.replace(OUTSIDE, outside), fields


def _entry(entry: Entry, outside: str) -> bytes:
    """One entry without the end of its archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        name, fields = _placed(entry, outside)
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            if key != "data":
                setattr(info, key, value)
        data = fields.get("data", b"")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        return out.getvalue()[: tar.offset]


def octal(number: int, length: int) -> bytes:
    return b"%0*o\0" % (length - 1, number)


def base256(number: int, length: int) -> bytes:
    """A number as GNU tar writes large and negative ones."""
    raw = bytearray((number % (1 << 8 * length)).to_bytes(length, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def header(  # a header has this many fields
    name: bytes = b"f",
    *,
    size: bytes | int = 0,
    typeflag: bytes = b"0",
    mode: bytes | int = 0o644,
    uid: bytes | int = 0,
    mtime: bytes | int = 0,
    linkname: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: bytes = octal(0, 8) + octal(0, 8),
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """A header block with any bytes in it; its checksum is right unless given."""

    def number(value: bytes | int, length: int) -> bytes:
        return value.ljust(length, b"\0")[:length] if isinstance(value, bytes) else octal(value, length)

    block = bytearray(BLOCK)
    at = 0
    for piece in (
        name.ljust(100, b"\0")[:100], number(mode, 8), number(uid, 8), octal(0, 8), number(size, 12), number(mtime, 12),
        b" " * 8, typeflag, linkname.ljust(100, b"\0")[:100], magic, bytes(64), device, prefix.ljust(155, b"\0")[:155],
    ):  # fmt: skip
        block[at : at + len(piece)] = piece
        at += len(piece)
    if checksum is None:
        return summed(bytes(block))
    block[148:156] = checksum
    return bytes(block)


def summed(block: bytes) -> bytes:
    """A header block with its right checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(records: bytes, size: int | None = None) -> bytes:
    """An extended header with these bytes for records."""
    return header(b"PaxHeaders.0/x", typeflag=b"x", size=len(records) if size is None else size) + padded(records)


def record(key: str, value: bytes | str) -> bytes:
    """A record with a right length."""
    body = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def with_records(*records: tuple[str, bytes | str]) -> bytes:
    """A file of one byte, described by these records."""
    return pax(b"".join(record(*each) for each in records)) + header(size=1) + padded(b"x")


def gnu(kind: bytes, text: bytes, size: int | None = None) -> bytes:
    """A long name (``L``) or a long link (``K``)."""
    return (
        header(b"././@LongLink", typeflag=kind, size=len(text) if size is None else size, magic=b"ustar  \0")
        + padded(text)
    )  # fmt: skip


def old_gnu(times: bytes) -> bytes:
    """A header of GNU's with these bytes where its times of access and change are, and ustar has its prefix."""
    block = header(magic=b"ustar  \0")
    return summed(block[:345] + times + block[345 + len(times) :])


def star(prefix: bytes = b"", accessed: bytes = b"", changed: bytes = b"") -> bytes:
    """A header of Schilling's star: a shorter prefix, two times behind it, and a mark of its own at the end."""
    block = header()[:345] + prefix.ljust(131, b"\0") + accessed.ljust(12, b"\0") + changed.ljust(12, b"\0")
    return summed(block.ljust(508, b"\0") + b"tar\0")


def common(name: bytes, *records: tuple[str, str]) -> bytes:
    """A global extended header."""
    data = b"".join(record(*each) for each in records)
    return header(name, typeflag=b"g", size=len(data)) + padded(data)


def sparse(stored: bytes, *records: tuple[str, str], size: str = "10", blocks: int = 1) -> bytes:
    """A sparse file of PAX's, whatever its map says."""
    described = [("GNU.sparse.name", "s"), ("GNU.sparse.numblocks", str(blocks)), *records, ("GNU.sparse.size", size)]
    return pax(b"".join(record(*each) for each in described)) + header(b"x", size=len(stored)) + padded(stored)


DEEP = "d/" * 1100 + "f"
"""A path that is deeper than Python's stack, and as long as a path may be."""

V1 = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"))
INVALID = "archive/tar: invalid tar header"
EOF_ = "unexpected EOF"
MISSING = "archive/tar: sparse file references non-existent data"
UNREFERENCED = "archive/tar: sparse file contains unreferenced data"
TOO_LONG = "archive/tar: header field too long"
VICTIM = f"{OUTSIDE}/victim"
UP = "../" * 40

CASES: dict[str, Case] = {
    # --- names that lead elsewhere
    "absolute name": Case([file("/abs/f"), file(VICTIM, b"over")]),
    "dots": Case([file("../../up"), file("a/../../../b"), file(f"{UP}{OUTSIDE}/victim", b"over")]),
    "dots behind a file": Case([file("f"), file("f/../g")]),
    "dots behind a symlink": Case([symlink("l", OUTSIDE), file("l/../g"), file("l/../../h")]),
    "written through a symlink": Case([symlink("l", OUTSIDE), file("l/victim", b"over"), file("l/new")]),
    "written through a symlink with dots": Case([symlink("l", f"{UP}{OUTSIDE}"), file("l/victim", b"over")]),
    "written through two symlinks": Case([symlink("b", OUTSIDE), symlink("a", "b"), file("a/victim", b"over")]),
    "written through a symlink inside one": Case(
        [symlink("a", "/"), symlink("a/b", OUTSIDE), file("b/victim", b"over")]
    ),
    "written through a symlink to the parent": Case([symlink("up", ".."), file("up/x"), file("up/up/up/y")]),
    "written through a symlink that was there": Case([file("l/victim", b"over")], before=[symlink("l", OUTSIDE)]),
    "written over a symlink": Case([symlink("l", VICTIM), file("l", b"over", mode=0o4777)]),
    "a directory over a symlink": Case([symlink("l", OUTSIDE), directory("l", mode=0o777), file("l/victim", b"over")]),
    "a directory becomes a symlink in between": Case(
        [directory("d"), file("d/f"), symlink("d", OUTSIDE), file("d/victim", b"over"), file("d/g")]
    ),
    "a symlink becomes a directory in between": Case(
        [symlink("d", OUTSIDE), file("d/x"), directory("d"), file("d/victim", b"inside")]
    ),
    "the parent of a directory becomes a symlink": Case(
        [file("a/b/c"), symlink("a", OUTSIDE), file("a/b/victim", b"over"), directory("a", mtime=5)]
    ),
    "a symlink is whited out and made anew": Case(
        [directory("d"), whiteout(".wh.d"), symlink("d", OUTSIDE), file("d/victim", b"over")]
    ),
    "times of a directory that became a symlink": Case(
        [directory("d", mtime=5), symlink("d", OUTSIDE)], "no such file or directory"
    ),
    "a fifo in a file's place": Case([special("f", tarfile.FIFOTYPE, mode=0o600), file("f", b"content")]),
    "a file in a fifo's place": Case([file("f"), special("f", tarfile.FIFOTYPE, mode=0o600)]),
    "a device in a file's place": Case(
        [file("f"), special("f", tarfile.CHRTYPE, devmajor=1, devminor=5), file("f", b"content")]
    ),
    "set-id bits": Case([file("su", mode=0o6777, uid=0), directory("sg", mode=0o7777)]),
    "an empty name": Case([file(""), file("f")]),
    "names of dots only": Case([directory("."), directory(".."), directory("/"), directory("./..//"), file("f")]),
    "a name of 5000 bytes": Case([file("n" * 5000)], "file name too long"),
    "a name of 256 bytes": Case([file("n" * 256)], "file name too long"),
    "a path of 5000 bytes": Case([file("dir/" * 1250 + "f")], "file name too long"),
    "a path of 1100 directories": Case([file(DEEP)]),
    "a symlink with 5000 bytes": Case([symlink("l", "n" * 5000)], "file name too long"),
    "a symlink without text": Case([header(b"l", typeflag=b"2")], "no such file or directory"),
    # --- links
    "hardlink to an absolute path": Case([hardlink("h", VICTIM)], "no such file or directory"),
    "hardlink with dots": Case([hardlink("h", f"{UP}{OUTSIDE}/victim")], "no such file or directory"),
    "hardlink through a symlink": Case([symlink("l", OUTSIDE), hardlink("h", "l/victim")], "no such file or directory"),
    "hardlink to a symlink out": Case([symlink("l", VICTIM), hardlink("h", "l", mode=0o777, uid=9)]),
    "written over a hardlink to a symlink out": Case([symlink("l", VICTIM), hardlink("h", "l"), file("h", b"over")]),
    "written through a hardlink to a symlink out": Case(
        [symlink("l", OUTSIDE), hardlink("h", "l"), file("h/victim", b"over")]
    ),
    "hardlink to itself": Case([file("f"), hardlink("f", "f")], "no such file or directory"),
    "hardlink to the root": Case([hardlink("h", "/")], "operation not permitted"),
    "hardlink to dots": Case([directory("d"), hardlink("d/h", "..")], "operation not permitted"),
    "hardlink without a target": Case([header(b"h", typeflag=b"1")], "operation not permitted"),
    "hardlink with a size": Case([file("f"), header(b"h", typeflag=b"1", size=5, linkname=b"f"), file("g")]),
    "symlink ring": Case([symlink("a", "b"), symlink("b", "a"), file("a/f")], "too many links"),
    "symlink to itself": Case([symlink("a", "a"), file("a/f")], "too many links"),
    "a chain of 300 symlinks": Case(
        [*(symlink(f"l{n}", f"l{n + 1}") for n in range(300)), file("l0/f")], "too many links"
    ),
    "a chain of 200 symlinks": Case([*(symlink(f"l{n}", f"l{n + 1}") for n in range(200)), file("l0/f")]),
    # --- whiteouts
    "whiteout of nothing": Case([whiteout(".wh.")], "invalid whiteout name: .wh.: invalid archive"),
    "whiteout of itself": Case([whiteout("d/.wh..")], "invalid whiteout name: .wh..: invalid archive"),
    "whiteout of the parent": Case([whiteout("d/.wh...")], "invalid whiteout name: .wh...: invalid archive"),
    "whiteout through a symlink": Case([whiteout("l/.wh.victim")], before=[symlink("l", OUTSIDE)]),
    "whiteout of a symlink": Case([whiteout(".wh.l")], before=[symlink("l", OUTSIDE)]),
    "opaque through a symlink": Case([whiteout("l/.wh..wh..opq")], before=[symlink("l", OUTSIDE)]),
    "opaque over symlinks": Case([whiteout(".wh..wh..opq")], before=[symlink("l", OUTSIDE), file("d/f")]),
    "opaque in odd places": Case(
        [file("f"), whiteout("f/.wh..wh..opq")], "not a directory"
    ),
    "opaque as a directory": Case([directory("d/.wh..wh..opq"), file("d/.wh..wh..opq/f")]),
    "whiteout that is a symlink": Case([symlink(".wh.x", OUTSIDE)], before=[file("x")]),
    "whiteout that is a hardlink": Case([file("f"), hardlink(".wh.f", "f")]),
    "whiteout of a whiteout": Case([whiteout(".wh..wh.x"), whiteout(".wh..wh..wh.x")], before=[file("y")]),
    "whiteout as a parent": Case([file(".wh.x/f")], before=[file("x")]),
    "a deep directory is whited out": Case([whiteout(".wh.d")], before=[file(DEEP)]),
    "a deep directory beside an opaque mark": Case([file(DEEP), whiteout(".wh..wh..opq")]),
    # --- attributes
    "trusted attributes": Case(
        [
            directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.x": "1"}),
            file("f", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}),
        ]
    ),
    "attributes of security": Case([file("f", pax_headers={"SCHILY.xattr.security.refimpl": "x"})]),
    "attributes of no kind": Case([file("f", pax_headers={"SCHILY.xattr.bogus.x": "1", "SCHILY.xattr.nodot": "1"})]),
    "an attribute without a name": Case(
        [file("f", pax_headers={"SCHILY.xattr.": "1"})], "numerical result out of range"
    ),
    "an attribute of 100000 bytes": Case(
        [file("f", pax_headers={"SCHILY.xattr.user.big": "x" * 100_000})], "argument list too long"
    ),
    "an attribute with a name of 300 bytes": Case(
        [file("f", pax_headers={f"SCHILY.xattr.user.{'n' * 300}": "x"})], "numerical result out of range"
    ),
    # --- extended headers
    "path with a null byte": Case([with_records(("path", b"a\0b"))], INVALID),
    "link with a null byte": Case([pax(record("linkpath", b"a\0b")) + header(b"l", typeflag=b"2")], INVALID),
    "attribute with a null byte": Case([with_records(("SCHILY.xattr.user.a", b"1\0002"))]),
    "attribute name with a null byte": Case([with_records(("SCHILY.xattr.user.a\0b", b"1"))], INVALID),
    "empty path record": Case([with_records(("path", b""))]),
    "dots in a path record": Case([with_records(("path", f"{UP}x"))]),
    "negative size": Case([with_records(("size", "-1"))], INVALID),
    "size with a fraction": Case([with_records(("size", "1.5"))], INVALID),
    "size of 8 EiB": Case([with_records(("size", str((1 << 63) - 1)))], EOF_),
    "size beyond 64 bits": Case([with_records(("size", str(1 << 64)))], INVALID),
    "uid of 64 bits": Case([with_records(("uid", str(1 << 40)))]),
    "negative uid": Case([with_records(("uid", "-1"))]),
    "uid with letters": Case([with_records(("uid", "0x10"))], INVALID),
    "uid with a sign": Case([with_records(("uid", "+5"))]),
    "uid with underscores": Case([with_records(("uid", "1_0"))], INVALID),
    "uid with spaces": Case([with_records(("uid", " 5 "))], INVALID),
    "negative time": Case([with_records(("mtime", "-1000000000000.5"))]),
    "time with letters": Case([with_records(("mtime", "1e5"))], INVALID),
    "time not a number": Case([with_records(("mtime", "nan"))], INVALID),
    "time with two dots": Case([with_records(("mtime", "1.2.3"))], INVALID),
    "time without digits": Case([with_records(("mtime", "."))], INVALID),
    "time of many digits": Case([with_records(("mtime", "1." + "1" * 1000), ("atime", "9" * 18))]),
    "time beyond 64 bits": Case([with_records(("mtime", "9" * 30))], INVALID),
    "a record without a length": Case([pax(b" path=x\n") + header()], INVALID),
    "a record that is too short": Case([pax(b"3 path=x\n") + header()], INVALID),
    "a record that is too long": Case([pax(b"999 path=x\n") + header()], INVALID),
    "a record with a huge length": Case([pax(b"9" * 400 + b" path=x\n") + header()], INVALID),
    "a record with a negative length": Case([pax(b"-10 path=x\n") + header()], INVALID),
    "a record without a key": Case([pax(b"5 =x\n") + header()], INVALID),
    "a record without a value's sign": Case([pax(b"9 path x\n") + header()], INVALID),
    "a record without its end": Case([pax(b"10 path=xy") + header()], INVALID),
    "garbage for records": Case([pax(bytes(range(256))) + header()], INVALID),
    "an extended header without an entry": Case([pax(record("path", "x"))]),
    "an extended header and the end of the file": Case([pax(record("path", "x"))], end=False),
    "extended headers in a row": Case([pax(record("path", "a")) + pax(record("uid", "5")) + header()]),
    "an extended header of 2 MiB": Case([pax(record("comment", "c" * (2 << 20))) + header()], TOO_LONG),
    "an extended header that ends early": Case([header(typeflag=b"x", size=1000) + b"x" * 100], EOF_, end=False),
    "an extended header of negative size": Case([header(typeflag=b"x", size=base256(-5, 12))], INVALID),
    "a global header with a path": Case([header(typeflag=b"g", size=12) + padded(b"12 path=abc\n"), file("f")]),
    "a global header with garbage": Case([header(typeflag=b"g", size=11) + padded(b"no records!"), file("f")], INVALID),
    "a global header with half a sparse map": Case(
        [common(b"g", ("GNU.sparse.numbytes", "2"), ("GNU.sparse.offset", "4")), file("f")], INVALID
    ),
    "a global header of negative size": Case([header(typeflag=b"g", size=base256(-5, 12))], INVALID),
    "a global header clears its place": Case([file("f"), file("d/f"), common(b"f"), common(b"d")]),
    "a global header clears the place that its records name": Case([common(b"g", ("path", "f"))], before=[file("f")]),
    "a global header in a directory": Case([common(b"d/g")]),
    "a global header in a file": Case([file("f"), common(b"f/g")], "not a directory"),
    "a global header through a symlink": Case([symlink("l", OUTSIDE), common(b"l/victim")]),
    "a global header named as a whiteout": Case([common(b".wh.f")], before=[file("f")]),
    "a global header named as an opaque mark": Case([common(b".wh..wh..opq")], before=[file("f")]),
    "a global header ends what was said before": Case(
        [pax(record("path", "a")), common(b"g"), header(b"e"), gnu(b"L", b"b\0"), common(b"g"), header()]
    ),
    "a spoilt time of change": Case([with_records(("ctime", "abc"))], INVALID),
    "zeros before a number": Case([with_records(("uid", "0" * 1500 + "5"))]),
    "zeros before a length": Case([pax(b"0" * 1200 + b"1212 path=a\n") + header()]),
    # --- GNU
    "GNU with a prefix, as Go once wrote it": Case([old_gnu(b"some/long/prefix")]),
    "GNU with a full prefix": Case([old_gnu(b"p" * 155)]),
    "GNU with a prefix of digits first": Case([old_gnu(b"1234/abc")]),
    "GNU with a prefix that is not ASCII": Case([old_gnu("\xe9/x".encode())]),
    "GNU with a time of access": Case([old_gnu(octal(10**9, 12))]),
    "GNU with a negative time of access": Case([old_gnu(base256(-5, 12))]),
    "GNU with a time of access beyond 64 bits": Case([old_gnu(base256(1 << 90, 12))]),
    "GNU with a spoilt time of change": Case([old_gnu(octal(10**9, 12) + b"zzzz")]),
    "star": Case([star(b"prefix"), star(b"p" * 131, octal(10**9, 12)), star(b"", octal(10**9, 12), octal(1, 12))]),
    "star with a spoilt time of access": Case([star(accessed=b"zzz")], INVALID),
    "star with a spoilt time of change": Case([star(changed=b"zzz")], INVALID),
    "GNU long name": Case([gnu(b"L", b"n" * 200 + b"\0") + header()]),
    "GNU long name with dots": Case([gnu(b"L", UP.encode() + b"x\0") + header()]),
    "GNU long name with a null byte in it": Case([gnu(b"L", b"a\0" + b"b" * 200) + header()]),
    "GNU long link out": Case(
        [gnu(b"K", f"{UP}etc/passwd\0".encode()) + header(b"h", typeflag=b"1")], "no such file or directory"
    ),
    "GNU long name of 2 MiB": Case([gnu(b"L", b"n" * (2 << 20)) + header()], TOO_LONG),
    "GNU long name of negative size": Case([gnu(b"L", b"", 0)[:124] + b"\xff" * 12 + gnu(b"L", b"")[136:]], INVALID),
    "GNU long name without an entry": Case([gnu(b"L", b"name\0")]),
    "GNU long name and a PAX path": Case([gnu(b"L", b"gnu\0") + with_records(("path", "pax"))]),
    "GNU sparse": Case([header(typeflag=b"S", magic=b"ustar  \0")], "unhandled tar header type 83"),
    "GNU sparse of the standard's magic": Case([header(typeflag=b"S")], INVALID),
    # --- sparse files of PAX's
    "sparse": Case([sparse(b"hi", ("GNU.sparse.map", "3,2"))]),
    "sparse with a map out of order": Case([sparse(b"abcd", ("GNU.sparse.map", "5,2,1,2"), blocks=2)], INVALID),
    "sparse with overlaps": Case([sparse(b"abcd", ("GNU.sparse.map", "1,3,2,1"), blocks=2)], INVALID),
    "sparse beyond its size": Case([sparse(b"abcd", ("GNU.sparse.map", "8,4"))], INVALID),
    "sparse with more than is stored": Case([sparse(b"ab", ("GNU.sparse.map", "1,4"))], MISSING),
    "sparse with less than is stored": Case([sparse(b"abcd", ("GNU.sparse.map", "1,2"))], UNREFERENCED),
    "sparse with half a pair": Case([sparse(b"ab", ("GNU.sparse.map", "1,2,3"))], INVALID),
    "sparse with letters": Case([sparse(b"ab", ("GNU.sparse.map", "a,b"))], INVALID),
    "sparse with negative numbers": Case([sparse(b"ab", ("GNU.sparse.map", "-1,2"))], INVALID),
    "sparse with numbers beyond 64 bits": Case([sparse(b"ab", ("GNU.sparse.map", f"{1 << 64},2"))], INVALID),
    "sparse with numbers that add up beyond 64 bits": Case(
        [sparse(b"ab", ("GNU.sparse.map", f"{(1 << 63) - 1},2"), size=str((1 << 63) - 1))], INVALID
    ),
    "sparse with an empty map": Case([sparse(b"", ("GNU.sparse.map", ""))]),
    "sparse with a negative size": Case([sparse(b"ab", ("GNU.sparse.map", "0,2"), size="-2")], INVALID),
    "sparse without a size": Case(
        [pax(record("GNU.sparse.map", "0,2") + record("GNU.sparse.numblocks", "1")) + header(size=2) + padded(b"ab")]
    ),
    "sparse of another number of blocks": Case([sparse(b"hi", ("GNU.sparse.map", "3,2"), blocks=2)], INVALID),
    "sparse of two blocks": Case([sparse(b"hoho", ("GNU.sparse.map", "3,2,7,2"), blocks=2)]),
    "sparse of no blocks": Case([sparse(b"", ("GNU.sparse.map", "0,0"), blocks=1)]),
    "sparse 0.0": Case([sparse(b"ab", ("GNU.sparse.offset", "4"), ("GNU.sparse.numbytes", "2"))]),
    "sparse 0.0 with numbers in the wrong order": Case(
        [sparse(b"ab", ("GNU.sparse.numbytes", "2"), ("GNU.sparse.offset", "4"))], INVALID
    ),
    "sparse 0.0 with half a pair": Case([sparse(b"ab", ("GNU.sparse.offset", "4"))], INVALID),
    "sparse with signs and zeros": Case([sparse(b"hi", ("GNU.sparse.map", "+03,+2"))]),
    "a whited out directory": Case([directory("d", mtime=5), whiteout(".wh.d")], "no such file or directory"),
    "sparse 1.0": Case([sparse(b"1\n4\n2\n".ljust(BLOCK, b"\0") + b"ab", *V1)]),
    "sparse 1.0 of more entries than there are": Case([sparse(b"5\n4\n2\n".ljust(BLOCK, b"\0") + b"ab", *V1)], EOF_),
    "sparse 1.0 of 10^18 entries": Case([sparse(b"1000000000000000000\n".ljust(BLOCK, b"\0"), *V1)], EOF_),
    "sparse 1.0 of letters": Case([sparse(b"abc\n".ljust(BLOCK, b"\0"), *V1)], INVALID),
    "sparse 1.0 without a map": Case([sparse(b"", *V1)], EOF_),
    "sparse 1.0 that ends within its map": Case([sparse(b"2\n4\n2\n" + b"1" * 506, *V1)], EOF_),
    "sparse of an unknown version": Case([sparse(b"ab", ("GNU.sparse.major", "9"), ("GNU.sparse.minor", "9"))]),
    "sparse with a null byte in its name": Case(
        [sparse(b"hi", ("GNU.sparse.map", "3,2"), ("GNU.sparse.name", "a\0b"))], "invalid argument"
    ),
    "sparse with dots in its name": Case([sparse(b"hi", ("GNU.sparse.map", "3,2"), ("GNU.sparse.name", f"{UP}s"))]),
    "sparse directory": Case(
        [
            pax(record("GNU.sparse.map", "0,0") + record("GNU.sparse.numblocks", "1"))
            + header(b"d/", typeflag=b"5")
        ],
        INVALID,
    ),
    # --- numbers in headers
    "wrong checksum": Case([header(checksum=b"0000001\0")], INVALID),
    "no checksum": Case([header(checksum=bytes(8))], INVALID),
    "checksum in base 256": Case([header(checksum=base256(sum(header(checksum=b" " * 8)), 8))], INVALID),
    "checksum of letters": Case([header(checksum=b"abcdefg\0")], INVALID),
    "size of letters": Case([header(size=b"zzzzzzzzzzz")], INVALID),
    "size of negative base 256": Case([header(size=base256(-1, 12))], INVALID),
    "negative sizes of what has no content": Case(
        [
            header(b"d/", typeflag=b"5", size=base256(-5, 12)),
            header(b"l", typeflag=b"2", linkname=b"x", size=base256(-5, 12)),
            pax(record("size", "-5")) + header(b"e/", typeflag=b"5"),
            file("f"),
        ]
    ),
    "size of large base 256": Case([header(size=base256(1 << 62, 12))], EOF_),
    "size beyond 64 bits in base 256": Case([header(size=base256(1 << 80, 12))], INVALID),
    "negative time in base 256": Case([header(mtime=base256(-100, 12))]),
    "time far away in base 256": Case([header(mtime=base256(1 << 62, 12))]),
    "negative uid in base 256": Case([header(uid=base256(-1, 8))]),
    "uid of spaces": Case([header(uid=b"       \0")]),
    "mode of type bits": Case([header(mode=0o140755)]),
    "device numbers of letters": Case([header(typeflag=b"3", device=b"xxxxxxx\0" * 2)], INVALID),
    "device numbers in base 256": Case([header(typeflag=b"3", device=base256(1 << 40, 8) + base256(3, 8))]),
    "unknown magic": Case([header(magic=b"whatever"), file("f")]),
    "old headers": Case([header(magic=bytes(8), prefix=b"ignored")]),
    "a prefix with dots": Case([header(b"x", prefix=b"../../..")]),
    "a file with a slash": Case([header(b"d/"), file("d/f")], "not a directory"),
    "a directory by its slash": Case([header(b"d/", typeflag=b"\0"), file("d/f")]),
    "a directory with a size": Case([header(b"d/", typeflag=b"5", size=1000), file("f")]),
    "types of vendors": Case([header(typeflag=b"A")], "unhandled tar header type 65"),
    "a type of zero": Case([header(typeflag=b"\0", size=1) + padded(b"x")]),
    # --- ends
    "nothing at all": Case([], end=False),
    "one block of zeros": Case([bytes(BLOCK)], end=False),
    "half a block": Case([b"x" * 100], EOF_, end=False),
    "half a block of zeros": Case([bytes(100)], EOF_, end=False),
    "cut in a header": Case([file("f"), header()[:300]], EOF_, end=False),
    "cut in a file": Case([header(size=1000) + b"x" * 700], EOF_, end=False),
    "cut in the padding": Case([header(size=700) + b"x" * 700], end=False),
    "cut before the padding's end": Case([header(size=700) + b"x" * 900], end=False),
    "without an end": Case([file("f")], end=False),
    "a block of zeros in between": Case([file("f"), bytes(BLOCK), file("g")], INVALID),
    "two archives": Case([file("f"), bytes(2 * BLOCK), file("g")]),
    "garbage behind the end": Case([file("f"), bytes(2 * BLOCK), b"garbage" * 1000], end=False),
    "garbage": Case([b"garbage!" * 200], INVALID),
    "gzip in a plain type": Case([b"\x1f\x8b\x08\0" + bytes(508)], INVALID),
}  # fmt: skip


def damaged(seed: int, outside: str) -> bytes:
    """A few cases in one archive with some bytes changed; the same for each seed."""
    chance = random.Random(seed)
    shallow = [case for case in CASES.values() if not case.deep]
    parts = [case.data(outside).rstrip(b"\0")[:20_000] for case in chance.sample(shallow, 3)]
    data = bytearray(b"".join(map(padded, parts)) + bytes(2 * BLOCK))
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(len(data) - 8)
        data[at : at + chance.randrange(1, 8)] = chance.randbytes(chance.randrange(1, 8))
    for at in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[at + 257 : at + 262] == b"ustar" and chance.random() < 0.9:
            # A wrong sum would end it here: what is behind it is what is looked for.
            data[at : at + BLOCK] = summed(bytes(data[at : at + BLOCK]))
    return bytes(data)
