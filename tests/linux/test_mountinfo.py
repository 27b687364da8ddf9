"""The table of mounts, whatever the paths in it are made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refimpl.linux.filesystems import filesystem_type
from refimpl.linux.mount import mount, unmount
from refimpl.linux.mountinfo import Mounted, mounted
from refimpl.linux.mounting import mount_points, unmount_all

ODD = ["\f", "\r", "\x1c", "\x85", "\u2028", " - ", "\t\n", "\\040", "#", os.fsdecode(b"\xff")]
"""What ends a line or a word somewhere, or looks like an escape, or is no text."""


def test_a_line_says_what_is_mounted_where_and_of_which_type(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/root rw\n"
        b"36 22 0:31 /sub /a\\040b\\134\\011\r\f rw - fuse.zfs h\\043\\040x rw,a - b\n"
    )
    assert mounted(table) == [Mounted("/", "ext4", "/dev/root"), Mounted("/a b\\\t\r\f", "fuse.zfs", "h# x")]


@pytest.mark.root
@pytest.mark.parametrize("odd", ODD)
def test_a_strange_mount_point_hinders_nobody(tmp_path: Path, odd: str) -> None:
    strange, other = tmp_path / f"a{odd}b", tmp_path / "other"
    for point in (strange, other):
        point.mkdir()
        mount("none", str(point), "tmpfs", 0, "")
    try:
        assert mount_points(str(tmp_path)) == [str(strange), str(other)]
        assert filesystem_type(str(strange)) == "tmpfs"
        unmount_all(str(other))
        assert mount_points(str(tmp_path)) == [str(strange)]
    finally:
        for left in mount_points(str(tmp_path)):
            unmount(left)
