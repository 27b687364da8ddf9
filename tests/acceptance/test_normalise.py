"""The normaliser hides what two runs may differ in, and nothing else."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.acceptance import images, normalise
from tests.acceptance.normalise import Normaliser
from tests.acceptance.script import Chapter, Step
from tests.acceptance.transcript import Entry, Transcript, differences

_A, _B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def normaliser() -> Normaliser:
    return _new_normaliser()


@pytest.mark.parametrize(
    "one, other",
    [
        ("2026-11-24T05:36:28.587635186Z", "2026-11-24T05:36:28Z"),
        ("2026-11-24 05:37:55.170286141 +0000 UTC default /topic", "2027-01-01 00:00:00 +0000 UTC default /topic"),
        ("size Less than a second", "size 3 seconds"),
        ("1190560d-76d9-4c5f-bcf3-fb3333478cae", "00000000-76d9-4c5f-bcf3-fb3333478cae"),
        ("lease 836262075-vKpk gone", "lease 11114-_-9A gone"),
        ("l=1,a=2,b=3", "b=3,l=1,a=2"),
        ("name      value   \n", "name value\n"),
        ("lower=/tmp/x/root/s/snapshots/4/fs", "lower=/tmp/x/root/s/snapshots/17/fs"),
        ('parent "ns/4/key" is', 'parent "ns/12/key" is'),
    ],
)
def test_two_runs_may_differ_in_this(normaliser: Normaliser, one: str, other: str) -> None:
    assert normaliser.text(one) == _new_normaliser().text(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("not found", "Not found"),
        ("a b", "b a"),
        ("  indented", "indented"),
        ("l=1,a=2", "l=1,a=3"),
        ("mount -t overlay overlay / -o a=1,b=2", "mount -t overlay overlay / -o b=2,a=1"),
        ("/tmp/x/root/f", "/tmp/x/other/f"),
        ("/snapshots/1/fs:/snapshots/2/fs", "/snapshots/1/fs:/snapshots/1/fs"),
        (f"{_A} {_B}", f"{_B} {_A}"),
        (f"{_B} {_B}", f"{_B} sha256:{'c' * 64}"),
        ("10.26kB", "10.27kB"),
    ],
)
def test_two_runs_may_not_differ_in_this(normaliser: Normaliser, one: str, other: str) -> None:
    assert normaliser.text(one) != _new_normaliser().text(other)


def test_an_unknown_digest_keeps_its_name_for_a_whole_run(normaliser: Normaliser) -> None:
    first = normaliser.text(f"{_B} and {_A}")
    assert first == "<digest 1> and <known>\n"
    assert normaliser.text(_B) == "<digest 1>\n"


def test_the_order_of_the_directories_of_layers_is_seen(normaliser: Normaliser) -> None:
    normaliser.text("/snapshots/7/fs")
    assert normaliser.text("/snapshots/9/fs:/snapshots/7/fs") == "/snapshots/<2>/fs:/snapshots/<1>/fs\n"


def test_the_size_of_a_snapshot_is_hidden_and_its_inodes_are_not() -> None:
    assert normalise.disk_sizes("key 12.0 KiB 3\n") == normalise.disk_sizes("key 4096 3\n")
    assert normalise.disk_sizes("key 12.0 KiB 3\n") != normalise.disk_sizes("key 12.0 KiB 4\n")


def test_only_the_status_of_a_plugin_is_hidden() -> None:
    assert normalise.first_three_columns("t id linux/amd64 ok\n") == "t id linux/amd64\n"


def test_a_message_without_its_text_still_has_its_kind() -> None:
    assert normalise.kind_only("time=x level=info\nctr: mount failed on /x: EOF: unknown\n") == "... unknown\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, images.gzip_stored])
def test_a_tar_stream_is_listed_whatever_packs_it(normaliser: Normaliser, pack: type[bytes]) -> None:
    plain = _tar("name", b"content", 0o600, images.EPOCH)
    assert normaliser.output(pack(plain)) == normaliser.output(plain)
    assert normaliser.output(plain).startswith("0 0600 0:0 name 7 bytes ")


def test_a_listing_tells_contents_modes_and_kept_times_apart(normaliser: Normaliser) -> None:
    listings = {
        normaliser.listing(_tar(*fields))
        for fields in [
            ("a", b"x", 0o644, images.EPOCH),
            ("b", b"x", 0o644, images.EPOCH),
            ("a", b"y", 0o644, images.EPOCH),
            ("a", b"x", 0o755, images.EPOCH),
            ("a", b"x", 0o644, images.EPOCH + 1),
        ]
    }
    assert len(listings) == 5


def test_a_step_that_differs_is_named_in_the_diff() -> None:
    chapter = Chapter("c", (Step("one"), Step("two")))
    left = Transcript(chapter.name, (Entry("one", "same\n"), Entry("two", "left\n")))
    right = Transcript(chapter.name, (Entry("one", "same\n"), Entry("two", "right\n")))
    diff = differences(left, right, ("l", "r"))
    assert "$ ctr two" in diff
    assert "$ ctr one" not in diff
    assert "-left" in diff
    assert "+right" in diff
    assert not differences(left, left, ("l", "r"))


def test_the_archives_are_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = (images.build(tmp_path / name, images.stand_in_program()) for name in "12")
    assert first.digests == second.digests
    assert first.oci.read_bytes() == second.oci.read_bytes()
    assert first.docker.read_bytes() == second.docker.read_bytes()


def _new_normaliser() -> Normaliser:
    return Normaliser({_A: "known"}, {Path("/tmp/x/root"): "<root>", Path("/tmp/x"): "<base>"})


def _tar(name: str, content: bytes, mode: int, mtime: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), mode, mtime
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
