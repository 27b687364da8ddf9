"""``refimpl bolt``: what it says about sound, damaged and locked files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.backends.real.bolt.format import BUCKET_HEADER
from refimpl.contract.encoding import encode_time
from tests.cli.commands import Command

COMMANDS = ["check", "stats", "dump"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as containerd keeps one, with some keys that are no text."""
    path = tmp_path / "meta.db"
    store = BoltStoreFactory().open(path, timeout=1.0)
    with store.update() as root:
        v1 = root.create_bucket(b"v1")
        v1.put(b"version", b"\x06")
        image = v1.create_bucket(b"default").create_bucket(b"images").create_bucket(b"a:1")
        image.put(b"createdat", encode_time(1_700_000_000_500_000_000))
        image.put(b"updatedat", b"no time")
        image.put(b"text", 'größe "1"'.encode())
        image.put(b"\xff\x00", b"\xfe")
        image.put(b"empty", b"")
        image.next_sequence()
    store.close()
    return path


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    page = os.sysconf("SC_PAGE_SIZE")
    data[4 * page + 8] = 0x40
    path.write_bytes(data)


def test_a_sound_file_is_said_to_be_sound(refimpl: Command, path: Path) -> None:
    done = refimpl("bolt", "check", str(path))
    assert (done.status, done.err) == (0, "")
    assert done.out == "sound: 9 pages, 4 buckets, 6 keys\n"
    assert json.loads(refimpl("bolt", "check", "--json", str(path)).out) == {"sound": True, "problems": []}


def test_every_problem_is_a_line_with_its_page(refimpl: Command, path: Path) -> None:
    damage(path)
    done = refimpl("bolt", "check", str(path))
    assert done.status == 1
    assert done.out == "page 4: invalid type: 0x40\n"
    listed = json.loads(refimpl("bolt", "check", "--json", str(path)).out)
    assert listed == {"sound": False, "problems": [{"page": 4, "message": "invalid type: 0x40"}]}


def test_statistics_count_what_is_there(refimpl: Command, path: Path) -> None:
    values = json.loads(refimpl("bolt", "stats", "--json", str(path)).out)
    assert values["file_size"] == path.stat().st_size
    assert (values["txid"], values["pages"], values["free_pages"], values["freelist_pages"]) == (2, 9, 2, 1)
    assert (values["buckets"], values["inline_buckets"], values["keys"], values["depth"]) == (4, 1, 6, 1)
    lines = refimpl("bolt", "stats", str(path)).out.splitlines()
    assert [line.split()[-1] for line in lines] == [str(value) for value in values.values()]


def test_a_dump_shows_times_numbers_text_and_bytes(refimpl: Command, path: Path) -> None:
    assert refimpl("bolt", "dump", str(path)).out.splitlines() == [
        "v1/",
        "  default/",
        "    images/",
        "      a:1/  (sequence 1)",
        "        createdat = 2023-11-14T22:13:20.5Z",
        '        empty = ""',
        '        text = "größe \\"1\\""',
        '        updatedat = "no time"',
        "        0xff00 = 0xfe",
        "  version = 3",
    ]


def test_a_dump_as_json_loses_nothing(refimpl: Command, path: Path) -> None:
    buckets = json.loads(refimpl("bolt", "dump", "--json", str(path)).out)
    assert [bucket["bucket"] for bucket in buckets] == [
        [],
        ["v1"],
        ["v1", "default"],
        ["v1", "default", "images"],
        ["v1", "default", "images", "a:1"],
    ]
    image = buckets[-1]
    assert image["sequence"] == 1
    assert image["values"]["createdat"]["time"] == "2023-11-14T22:13:20.5Z"
    assert buckets[1]["values"] == {"version": {"hex": "06", "number": 3}}
    (odd,) = [key for key in image["values"] if not key.isalpha()]
    assert odd.encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert image["values"][odd] == {"hex": "fe"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_use_is_refused_with_the_one_who_uses_it(refimpl: Command, path: Path, command: str) -> None:
    store = BoltStoreFactory().open(path, timeout=1.0)
    try:
        done = refimpl("bolt", command, str(path))
    finally:
        store.close()
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"refimpl: {path} is in use by ")
    assert f"process {os.getpid()} (" in done.err
    assert done.err.endswith("): stop it first\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", ["missing", "a directory", "text"])
def test_what_is_no_database_is_told_in_a_line(refimpl: Command, tmp_path: Path, command: str, what: str) -> None:
    path = tmp_path / "meta.db"
    if what == "a directory":
        path.mkdir()
    elif what == "text":
        path.write_text("text\n" * 10_000)
    done = refimpl("bolt", command, str(path))
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"refimpl: {path}: ")
    assert path.exists() == (what != "missing"), "a tool that reads makes nothing"


def test_damage_met_while_dumping_ends_the_dump_with_a_line(refimpl: Command, path: Path) -> None:
    damage(path)
    done = refimpl("bolt", "dump", str(path))
    assert done.status == 1
    assert done.err == f"refimpl: {path}: page 4: invalid type: 0x40\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_statistics_of_a_damaged_file_are_not_passed_off_as_right(
    refimpl: Command, path: Path, options: tuple[str, ...]
) -> None:
    damage(path)
    done = refimpl("bolt", "stats", *options, str(path))
    assert (done.status, done.err) == (
        1,
        f"refimpl: {path} is damaged, so these numbers may lack something: see refimpl bolt check\n",
    )
    assert "page" in done.out


def test_damage_inside_an_inline_bucket_is_told_with_the_name_of_the_bucket(refimpl: Command, path: Path) -> None:
    data = bytearray(path.read_bytes())
    # The number of the page inside, which is 0 in a sound file.
    data[data.index(b"a:1") + len(b"a:1") + BUCKET_HEADER.size] = 1
    path.write_bytes(data)
    done = refimpl("bolt", "dump", str(path))
    assert done.status == 1
    assert done.err == f"refimpl: {path}: bucket b'a:1': it calls itself page 1\n"
