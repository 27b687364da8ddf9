"""Bundles: what is laid out, for whom, and how it goes away."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from refimpl.backends.real.runtime.bundle import Bundle, BundlePlaces, unmount_all
from refimpl.contract.errors import Unknown

pytestmark = pytest.mark.root

ODD = b'{ "ociVersion":"1.0.2",\n "x": [1, 2.50, "\\u00e4"] }'
"""A spec that is not as a program would write it."""


def _places(top: Path, *, linked: bool = True) -> BundlePlaces:
    return BundlePlaces(top / "state" / "plugin", top / "root" / "plugin", linked)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """One that is not made yet."""
    return _places(tmp_path).bundle("ns", "id")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _below(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def test_a_bundle_is_laid_out_whatever_the_umask(bundle: Bundle) -> None:
    before = os.umask(0o077)
    try:
        bundle.make(ODD)
    finally:
        os.umask(before)

    assert (bundle.path / "config.json").read_bytes() == ODD
    assert (bundle.path / "work").readlink() == bundle.work
    assert _mode(bundle.path) == 0o700
    assert _mode(bundle.path / "config.json") == 0o644
    open_ones = [bundle.rootfs, bundle.work]
    open_ones += [parent for one in (bundle.path, bundle.work) for parent in (one.parent, one.parent.parent)]
    assert {_mode(path) for path in open_ones} == {0o711}


def test_a_bundle_of_the_first_runtime_has_no_link(tmp_path: Path) -> None:
    bundle = _places(tmp_path, linked=False).bundle("ns", "id")
    bundle.make(b"{}")

    assert {path.name for path in bundle.path.iterdir()} == {"config.json", "rootfs"}


@pytest.mark.parametrize(
    "mapping, expected",
    [
        ({"containerID": 0, "hostID": 12345, "size": 9}, (0o710, 12345)),
        ({"hostID": 12345, "size": 9}, (0o710, 12345)),
        ({"containerID": 1, "hostID": 12345, "size": 9}, (0o700, 0)),
        ({"containerID": 0, "hostID": 0, "size": 9}, (0o700, 0)),
    ],
)
def test_the_group_that_root_is_mapped_to_may_enter(
    bundle: Bundle, mapping: dict[str, int], expected: tuple[int, int]
) -> None:
    bundle.make(json.dumps({"linux": {"gidMappings": [mapping]}}).encode())

    assert (_mode(bundle.path), bundle.path.stat().st_gid) == expected


@pytest.mark.parametrize(
    "spec", [b"not json", b"\xff", b"[]", b'{"linux": []}', b'{"linux": {"gidMappings": {"a": 1}}}']
)
def test_a_spec_that_cannot_be_read_leaves_nothing(bundle: Bundle, tmp_path: Path, spec: bytes) -> None:
    with pytest.raises(Unknown, match="spec cannot be read"):
        bundle.make(spec)

    assert _below(tmp_path) == set()


def test_a_bundle_that_is_there_is_left_as_it_is(bundle: Bundle) -> None:
    bundle.make(ODD)

    with pytest.raises(Unknown, match=f"mkdir {bundle.path}: file exists"):
        bundle.make(b"{}")

    assert (bundle.path / "config.json").read_bytes() == ODD


def test_a_stale_work_directory_is_replaced(bundle: Bundle) -> None:
    bundle.work.mkdir(parents=True)
    (bundle.work / "stale").write_text("x")

    bundle.make(b"{}")

    assert list(bundle.work.iterdir()) == []


def test_nothing_is_left_of_a_bundle_and_nothing_missed(bundle: Bundle) -> None:
    bundle.make(b"{}")
    (bundle.path / "deep").mkdir()
    (bundle.path / "deep" / "file").write_text("x")

    bundle.remove()
    bundle.remove()

    assert list(bundle.path.parent.iterdir()) == list(bundle.work.parent.iterdir()) == []


def test_a_removal_that_was_cut_short_is_not_in_the_way_of_another(bundle: Bundle) -> None:
    for _ in range(2):
        bundle.make(b"{}")
        hidden = bundle.path.with_name(".id")
        hidden.mkdir(exist_ok=True)
        (hidden / "left").write_text("x")

        bundle.remove()

        assert not hidden.exists()
        assert not bundle.path.exists()


def test_a_root_file_system_with_files_of_its_own_keeps_all(bundle: Bundle) -> None:
    bundle.make(b"{}")
    (bundle.rootfs / "mine").write_text("x")

    with pytest.raises(OSError, match="not empty"):
        bundle.remove()

    assert (bundle.rootfs / "mine").read_text() == "x"
    assert bundle.work.is_dir()


def test_all_mounts_are_undone_and_what_was_mounted_stays(bundle: Bundle, tmp_path: Path) -> None:
    bundle.make(b"{}")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("of the host")
    for _ in range(2):
        subprocess.run(["mount", "--bind", kept, bundle.rootfs], check=True)

    try:
        bundle.remove()
        assert str(bundle.rootfs) not in Path("/proc/self/mounts").read_text()
        assert not bundle.path.exists()
        assert (kept / "file").read_text() == "of the host"
    finally:
        unmount_all(bundle.rootfs)


def test_a_file_of_the_bundle_is_roots_alone_and_replaced_as_a_whole(bundle: Bundle) -> None:
    bundle.make(b"{}")
    assert bundle.read("address") == ""

    bundle.record("address", "unix:///a")
    bundle.record("address", "unix:///b")

    assert bundle.read("address") == "unix:///b"
    assert _mode(bundle.path / "address") == 0o600
    assert {path.name for path in bundle.path.iterdir()} == {"config.json", "rootfs", "work", "address"}
