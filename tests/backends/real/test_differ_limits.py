"""Large layers in little memory: many entries, and much content in few bytes.

The full numbers, a million entries and 8 GiB, take minutes: ``REFIMPL_LAYER_ENTRIES=1000000`` and
``REFIMPL_LAYER_MIB=8192`` ask for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

ENTRIES = int(os.environ.get("REFIMPL_LAYER_ENTRIES", "20000"))
MIB = int(os.environ.get("REFIMPL_LAYER_MIB", "512"))

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    yield from _mounted(tmp_path, "size=16m")


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory that holds what the tests make."""
    yield from _mounted(tmp_path, f"size={MIB + ENTRIES // 100 + 64}m,nr_inodes={ENTRIES * 2}")


def _mounted(tmp_path: Path, options: str) -> Iterator[Path]:
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


def unpacked(kind: str, count: int, target: Path) -> tuple[int, str]:
    """Status and words of unpacking in a process that may not grow by much."""
    argv = [sys.executable, "-m", "tests.backends.real.limited", kind, str(count), str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    return done.returncode, done.stdout + done.stderr[-2000:]


def test_many_entries_take_no_more_memory_than_few(large: Path) -> None:
    assert unpacked("entries", ENTRIES, large) == (0, "")
    found = [len(list(directory.iterdir())) for directory in large.iterdir()]
    assert sum(found) == ENTRIES


@pytest.mark.parametrize("kind", ["zeros", "zeros-zstd"])
def test_much_content_in_few_bytes_goes_straight_to_the_disk(large: Path, kind: str) -> None:
    assert unpacked(kind, MIB, large) == (0, "")
    assert (large / "zeros").stat().st_size == MIB << 20


@pytest.mark.parametrize("kind", ["zeros", "zeros-zstd"])
def test_what_does_not_fit_is_told_and_goes_nowhere_else(small: Path, kind: str) -> None:
    beside = sorted(small.parent.iterdir())
    status, said = unpacked(kind, MIB, small)
    assert (status, said.strip().rpartition(": ")[2]) == (1, "no space left on device")
    assert sorted(small.parent.iterdir()) == beside
    assert [path.name for path in small.iterdir()] == ["zeros"]
