"""Our tar against Python's, in both directions, and against damage (DIF-029, DIF-039, DIF-061)."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import DIRECTORY, GLOBAL, HARDLINK, REGULAR, SYMLINK, Header, parse_pax_time
from refimpl.archive.tar_reader import Entry, entries
from refimpl.archive.tar_writer import TarWriter
from refimpl.contract.errors import Unknown
from refimpl.contract.times import SECOND
from tests.archive.archives import archive, directory, file, hardlink, special, symlink


def read(data: bytes, size: int = 1000) -> list[tuple[Header, bytes]]:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return [(entry.header, content(entry)) for entry in entries(ByteStream(chunks))]


def content(entry: Entry) -> bytes:
    return b"".join(entry.content())


def written(*headers: tuple[Header, bytes]) -> bytes:
    parts: list[bytes] = []
    tar = TarWriter(parts.append)
    for header, data in headers:
        tar.add(header)
        if data:
            tar.content(data)
    tar.finish()
    return b"".join(parts)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(name=NAMES, target=NAMES, data=st.binary(max_size=2000), number=st.integers(0, (1 << 32) - 1))
def test_what_we_write_we_and_others_read(name: str, target: str, data: bytes, number: int) -> None:
    name = name.rstrip("/") or "x"
    mtime = number * 1000 - SECOND  # also before 1970, where only a record can say it
    headers = [
        Header(name, REGULAR, 0o6755, number, number, len(data), mtime * SECOND, xattrs={"security.capability": b"\1"}),
        Header(name, SYMLINK, 0o777, linkname=target, mtime=5 * SECOND),
    ]
    archived = written((headers[0], data), (headers[1], b""))
    assert read(archived) == [(headers[0], data), (headers[1], b"")]
    with tarfile.open(fileobj=io.BytesIO(archived)) as tar:
        first, second = tar.getmembers()
    assert (first.name, first.uid, first.gid, first.mtime) == (name, number, number, mtime)
    assert (second.linkname, second.issym()) == (target, True)


FORMS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@given(name=NAMES, target=NAMES, data=st.binary(max_size=2000), form=FORMS)
def test_what_others_write_we_read(name: str, target: str, data: bytes, form: int) -> None:
    name, target = name.rstrip("/") or "x", target.rstrip("/") or "y"
    archived = archive(file(name, data), hardlink("link", target, uid=3_000_000_000), form=form)
    (first, read_data), (second, _) = read(archived)
    assert (first.name, first.typeflag, read_data) == (name, REGULAR, data)
    assert (second.linkname, second.typeflag, second.uid) == (target, HARDLINK, 3_000_000_000)


def test_a_short_plain_entry_needs_no_extended_header() -> None:
    assert len(written((Header("etc/passwd", uid=1000, mtime=10**9 * SECOND), b""))) == 3 * 512


def test_a_long_name_is_split_if_nothing_else_asks_for_records() -> None:
    header = Header("d" * 90 + "/" + "e" * 90 + "/", DIRECTORY)
    assert len(written((header, b""))) == 3 * 512
    header.xattrs["security.capability"] = b"\1"
    assert len(written((header, b""))) == 5 * 512
    assert read(written((header, b"")))[0][0] == header


def test_a_regular_entry_with_a_slash_is_a_directory() -> None:
    [(header, _)] = read(archive(("old/", {"type": tarfile.AREGTYPE})))
    assert header.typeflag == DIRECTORY


def test_a_global_header_is_an_entry_without_content() -> None:
    data = archive(special("pax_global_header", tarfile.XGLTYPE), file("f"))
    assert [(header.name, header.typeflag, content) for header, content in read(data)] == [
        ("pax_global_header", GLOBAL, b""),
        ("f", REGULAR, b"x"),
    ]


@pytest.mark.parametrize("form", ["0.0", "0.1", "1.0"])
def test_sparse_files_are_read_with_their_holes(form: str) -> None:
    stored = b"head" + b"tail"
    fragments = [(0, 4), (1000, 4)]
    headers = {
        "0.0": {"GNU.sparse.size": "1500", "GNU.sparse.numblocks": "2"},
        "0.1": {
            "GNU.sparse.size": "1500",
            "GNU.sparse.numblocks": "2",
            "GNU.sparse.name": "named",
            "GNU.sparse.map": "0,4,1000,4",
        },
        "1.0": {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "named",
            "GNU.sparse.realsize": "1500",
        },
    }[form]
    if form == "1.0":
        lines = "".join(f"{number}\n" for number in (2, *(n for pair in fragments for n in pair)))
        stored = lines.encode().ljust(512, b"\0") + stored
    data = archive(file("named", stored, pax_headers=headers))
    if form == "0.0":
        # Its records come twice each, which no dictionary can say: they are put in by hand.
        pairs = b"".join(
            _record(key, number)
            for pair in fragments
            for key, number in zip(("GNU.sparse.offset", "GNU.sparse.numbytes"), pair, strict=True)
        )
        data = _with_records(
            _record("GNU.sparse.size", 1500) + _record("GNU.sparse.numblocks", 2) + pairs, "named", stored
        )
    [(header, read_data)] = read(data)
    assert (header.name, header.size) == ("named", 1500)
    assert read_data == b"head".ljust(1000, b"\0") + b"tail".ljust(500, b"\0")


def _record(key: str, number: int) -> bytes:
    body = f" {key}={number}\n"
    return f"{len(body) + 2}{body}".encode()


def _with_records(records: bytes, name: str, stored: bytes) -> bytes:
    extended = archive(special("x", tarfile.REGTYPE, data=records))[:1024]
    block = bytearray(extended[:512])
    block[156:157] = b"x"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}".encode() + b"\0 "
    return bytes(block) + extended[512:] + archive(file(name, stored))


@pytest.mark.parametrize(
    "data,text",
    [
        (archive(file("f"))[:100], "unexpected EOF"),
        (archive(file("f", b"x" * 2000))[:1200], "unexpected EOF"),
        (b"x" * 1024, "archive/tar: invalid tar header"),
        (bytes(512) + b"x" * 512, "archive/tar: invalid tar header"),
        (archive(file("f"))[:512][::-1], "archive/tar: invalid tar header"),
        (archive(file("f", pax_headers={"mtime": "soon"})), "archive/tar: invalid tar header"),
        (archive(file("f", pax_headers={"GNU.sparse.map": "1,2,3", "GNU.sparse.size": "9"})), "invalid tar header"),
    ],
)
def test_damage_is_reported_in_containerds_words(data: bytes, text: str) -> None:
    with pytest.raises(Unknown, match=text):
        read(data)


@given(st.binary(max_size=3000))
def test_garbage_is_an_error_or_an_archive_and_never_anything_else(data: bytes) -> None:
    try:
        read(data)
    except Unknown:
        return
    assert data[:512].count(0) == len(data[:512])


@given(st.data())
def test_a_flipped_byte_is_an_error_or_another_archive(data: st.DataObject) -> None:
    entries = (file("f", b"x" * 600, pax_headers={"mtime": "1.5"}), symlink("l", "t" * 150), directory("d"))
    good = bytearray(archive(*entries))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read(bytes(good))
    except Unknown:
        return


def test_an_archive_may_end_cleanly_without_its_end_marks_or_padding() -> None:
    data = archive(file("f", b"hi"))
    assert [part[1] for part in read(data[:1024])] == [b"hi"]
    assert [part[1] for part in read(data[:600])] == [b"hi"]


@pytest.mark.parametrize(
    "text,nanoseconds",
    [("0", 0), ("1.5", 1_500_000_000), ("-1.5", -1_500_000_000), ("1.1234567891", 1_123_456_789), ("1.", SECOND)],
)
def test_times_of_records_are_cut_to_nanoseconds(text: str, nanoseconds: int) -> None:
    assert parse_pax_time(text.encode()) == nanoseconds


def test_a_device_number_that_tar_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        written((Header("dev", "3", device=(1, 8**7)), b""))
