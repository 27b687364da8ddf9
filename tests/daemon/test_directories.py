"""Root, state, temp and temporary mounts (DMN-016 to DMN-022)."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.daemon import directories
from refimpl.daemon.directories import DirectoryError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_missing_directories_are_made_with_containerds_modes_whatever_the_umask(tmp_path: Path) -> None:
    root, state = tmp_path / "a/root", tmp_path / "b/state"
    directories.make(root, state)
    assert (mode(root), mode(state), mode(root / "tmpmounts")) == (0o700, 0o711, 0o700)


def test_an_existing_root_is_closed_and_an_existing_state_kept(tmp_path: Path) -> None:
    root, state = tmp_path / "root", tmp_path / "state"
    root.mkdir()
    root.chmod(0o755)
    state.mkdir()
    state.chmod(0o777)
    directories.make(root, state)
    assert (mode(root), mode(state)) == (0o700, 0o777)


@pytest.mark.parametrize("name", ["root", "state"])
def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(DirectoryError, match=f"{name}: not a directory"):
        directories.make(tmp_path / "root", tmp_path / "state")


def test_a_file_below_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match="not a directory"):
        directories.make(tmp_path / "file/root", tmp_path / "state")


def test_a_file_in_the_place_of_temporary_mounts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/tmpmounts").write_text("")
    with pytest.raises(DirectoryError, match="creating temp mount location"):
        directories.make(tmp_path / "root", tmp_path / "state")


def test_what_nothing_is_mounted_on_stays(tmp_path: Path) -> None:
    left = tmp_path / "root/tmpmounts/containerd-mount1/file"
    left.mkdir(parents=True)
    directories.make(tmp_path / "root", tmp_path / "state")
    assert left.exists()


@pytest.mark.root
@pytest.mark.debian("mount", "umount")
def test_mounts_of_an_earlier_run_are_unmounted(tmp_path: Path) -> None:
    base = tmp_path / "with blank"
    left = base / "root/tmpmounts/containerd-mount1"
    left.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "none", left], capture_output=True, timeout=30, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        directories.make(base / "root", base / "state")
        assert list((base / "root/tmpmounts").iterdir()) == []
    finally:
        subprocess.run(["umount", left], capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "root,state,message",
    [
        ("/x", "/x", "root and state must be different paths"),
        ("", "/x", "root must be specified"),
        ("/x", "", "state must be specified"),
    ],
)
def test_root_and_state_are_two_places(root: str, state: str, message: str) -> None:
    with pytest.raises(DirectoryError, match=message):
        directories.check(root, state)


def test_only_the_text_is_compared() -> None:
    directories.check("/x", "/x/")
    directories.check("/x", "/x/state")


def test_a_temp_directory_is_for_this_process_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    directories.use_temporary("")
    assert os.environ["TMPDIR"] == "/elsewhere"
    directories.use_temporary(str(tmp_path / "t/deep"))
    assert os.environ["TMPDIR"] == str(tmp_path / "t/deep")
    assert tempfile.gettempdir() == str(tmp_path / "t/deep")
    assert mode(tmp_path / "t/deep") == 0o700
