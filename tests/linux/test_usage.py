"""What a tree takes: blocks and inodes, each once (refimpl.linux.usage)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refimpl.linux.usage import disk_usage
from tests.linux.trees import DEPTH, deepen, open_files


def _measured(root: Path) -> tuple[int, int]:
    found = {os.lstat(path).st_ino: os.lstat(path).st_blocks * 512 for path in [root, *root.rglob("*")]}
    return sum(found.values()), len(found)


def test_each_inode_counts_once_with_the_blocks_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a/file", tmp_path / "a/b/again")
    (tmp_path / "a/link").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)

    size, inodes = disk_usage(str(tmp_path))

    assert (size, inodes) == _measured(tmp_path)
    assert inodes == 6
    assert size < 1 << 30


def test_an_empty_directory_is_one_inode(tmp_path: Path) -> None:
    assert disk_usage(str(tmp_path)) == (tmp_path.stat().st_blocks * 512, 1)


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree/link").symlink_to("../outside")

    assert disk_usage(str(tmp_path / "tree"))[1] == 2
    with pytest.raises(NotADirectoryError):
        disk_usage(str(tmp_path / "tree/link"))


def test_a_tree_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    deepen(tmp_path, DEPTH)
    assert disk_usage(str(tmp_path))[1] == DEPTH + 1


def _removed(top: Path) -> None:
    for path in (top / "b").iterdir():
        path.unlink()
    (top / "b").rmdir()


@pytest.mark.parametrize("change", [_removed, lambda top: (top / "b").rename(top / "c")])
def test_what_vanishes_during_the_walk_does_not_count(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Whoever writes into an active snapshot does not wait for its size."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"1")
    checks = []

    def check() -> None:
        checks.append(1)
        # The root has been read, and none of its directories was entered.
        if len(checks) == 1:
            change(tmp_path)

    _, inodes = disk_usage(str(tmp_path), check)
    assert inodes == 4, "the root, its directories as they were listed, and the file of the one that is left"


def test_a_directory_moved_away_from_under_the_walk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    checks = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 3:
            (tmp_path / "tree/a/b").rename(tmp_path / "other/b")

    with pytest.raises(OSError, match="Stale"):
        disk_usage(str(tmp_path / "tree"), check)


def test_a_walk_that_is_not_wanted_any_more_ends(tmp_path: Path) -> None:
    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        disk_usage(str(tmp_path), check)
    assert open_files(tmp_path) == []
