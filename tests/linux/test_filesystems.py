"""What is known of the file system below a path (refimpl.linux.filesystems, refimpl.linux.userns)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.linux.filesystems import filesystem_type, mount_of, supports_d_type
from refimpl.linux.userns import in_user_namespace


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs on a directory whose name has to be written in octal."""
    point = tmp_path / "a b\tc\\d\u00e9"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "h e r e", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.root
def test_the_nearest_mount_above_a_path_is_its_file_system(mounted: Path, tmp_path: Path) -> None:
    (mounted / "inner").mkdir()
    (tmp_path / "link").symlink_to(mounted / "inner")

    for path in (mounted, mounted / "inner", tmp_path / "link"):
        assert mount_of(str(path)) == (str(mounted), "tmpfs", "h e r e")
    assert mount_of(str(tmp_path))[0] != str(mounted)


def test_known_file_systems() -> None:
    assert filesystem_type("/proc/self") == "proc"
    with pytest.raises(FileNotFoundError):
        filesystem_type("/no/such/path")


@pytest.mark.parametrize("content", [[], ["file"], ["file", "dir/"]])
def test_an_ordinary_file_system_says_what_its_entries_are(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()

    assert supports_d_type(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name.rstrip("/") for name in content), (
        "nothing is left"
    )


def test_more_entries_than_one_call_answers_with(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"a name that takes some room {number}").touch()

    assert supports_d_type(str(tmp_path))


@pytest.mark.root
@pytest.mark.debian("mkfs.ext2", "mount")
def test_an_old_file_system_does_not(tmp_path: Path) -> None:
    image, point = tmp_path / "image", tmp_path / "point"
    point.mkdir()
    image.touch()
    os.truncate(image, 4 << 20)
    subprocess.run([str(shutil.which("mkfs.ext2")), "-q", "-O", "^filetype", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=False, capture_output=True).returncode:
        pytest.skip("no loop device can be mounted here")
    try:
        assert not supports_d_type(str(point))
        (point / "empty").mkdir()
        assert not supports_d_type(str(point / "empty"))
        assert list((point / "empty").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.parametrize(
    "text,inside",
    [
        ("         0          0 4294967295\n", False),
        ("         0       1000          1\n", True),
        ("         0          0 4294967295\n      5 5 1\n", True),
        ("", True),
    ],
)
def test_a_map_that_maps_is_a_namespace(tmp_path: Path, text: str, inside: bool) -> None:
    (tmp_path / "uid_map").write_text(text)
    assert in_user_namespace(tmp_path / "uid_map") is inside


def test_a_kernel_without_maps_has_no_namespaces(tmp_path: Path) -> None:
    assert not in_user_namespace(tmp_path / "none")
