"""What the real world offers to plugins: directories and mounts of this machine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from refimpl.backends.real.resources import refimpl_resources
from refimpl.backends.real.scratch import RealScratch
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mounter, TemporaryMounts
from refimpl.contract.scratch import Scratch
from refimpl.kernel import Resources


def test_a_scratch_directory_is_empty_and_private(tmp_path: Path) -> None:
    path, tree = RealScratch(tmp_path).make("ctrd-")
    assert Path(path).parent == tmp_path
    assert Path(path).name.startswith("ctrd-")
    assert list(Path(path).iterdir()) == []
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700
    tree.write("/file", b"x")
    assert Path(path, "file").read_bytes() == b"x"


def test_two_scratch_directories_are_two(tmp_path: Path) -> None:
    scratch = RealScratch(tmp_path)
    assert scratch.make("a")[0] != scratch.make("a")[0]


def test_a_scratch_directory_goes_with_all_in_it_and_may_be_gone(tmp_path: Path) -> None:
    scratch = RealScratch(tmp_path)
    path, tree = scratch.make("a")
    tree.makedirs("/deep/down")
    tree.write("/deep/down/file", b"")
    scratch.remove(path)
    assert list(tmp_path.iterdir()) == []
    scratch.remove(path)


def test_a_relative_place_for_temporary_files_still_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RealScratch(Path()).make("a")[0].startswith(f"{tmp_path}/")


@pytest.mark.root
def test_mounts_are_made_where_the_daemon_says(tmp_path: Path) -> None:
    resources = Resources({TemporaryMounts: TemporaryMounts(str(tmp_path))}, refimpl_resources())
    with resources.get(Mounter).mounted(CallContext(), []):  # type: ignore[type-abstract]  # a Protocol is the key
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_offered_belongs_to_the_real_world() -> None:
    offers = refimpl_resources()
    assert {offer.backend for offer in offers} == {"real"}
    assert {Mounter, Scratch} <= {offer.key for offer in offers}
