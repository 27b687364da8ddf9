"""Snapshotters that a host cannot have: what aufs, btrfs, devmapper and zfs say there (SNX-037 to SNX-070)."""

from __future__ import annotations

import posixpath
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from conformance import clause
from conformance.suites._events import program
from conformance.suites._snapshotters import TYPE, plugins, prepare, section
from refimpl.contract.quoting import quoted
from refimpl.linux.filesystems import filesystem_type

_NEEDS_BTRFS = "it takes a mounted btrfs file system; checks join with the btrfs backend"
_NEEDS_POOL = "it takes a thin pool; checks join with the devmapper backend"
_NEEDS_ZFS = "it takes a zfs dataset; checks join with the zfs backend"
_BEFORE_2 = "the plugin is one of 2.x; checks join with a subject that has it"

NO_CHECK: dict[str, str] = {
    **{f"SNX-{n:03}": _NEEDS_BTRFS for n in range(39, 45)},
    **{f"SNX-{n:03}": _NEEDS_POOL for n in range(49, 64)},
    **{f"SNX-{n:03}": _NEEDS_ZFS for n in range(65, 70)},
    "SNX-071": "no kernel with aufs could be asked; checks join with the aufs backend",
    **{f"SNX-{n:03}": _BEFORE_2 for n in range(72, 85)},
}
"""Clauses of the whole area that no check decides, and why."""


def _refusal(subject, id):
    """Why a plugin is not loaded. Where it is, this machine can have it, and other clauses hold."""
    found = plugins(subject).get(id)
    if found is None:
        pytest.skip(f"this release has no {id}")
    if found.init_err is None:
        pytest.skip(f"this machine can have {id}")
    assert prepare(subject, id).code == "INVALID_ARGUMENT"
    return found.init_err.message


# ------------------------------------------------------------------------------------------------- btrfs


@clause("SNX-037", needs={"disk"})
def test_elsewhere_than_on_btrfs_it_is_skipped(subject):
    """Rejects: an error, which reads as something to be repaired."""
    root = f"{subject.root}/{TYPE}.btrfs"
    type = filesystem_type(str(subject.root))
    if type == "btrfs":
        pytest.skip("the subject's root is on btrfs")

    assert _refusal(subject, "btrfs") == (
        f"path {root} ({type}) must be a btrfs filesystem to be used with the btrfs snapshotter: skip plugin"
    )
    assert Path(root).is_dir(), "made by the attempt"


@clause("SNX-038", needs={"disk"})
def test_its_directory_is_made_one_level_deep(own, tmp_path):
    """Rejects: an error that is told as a decision not to load."""
    root = f"{tmp_path}/missing/deep"
    instance = own(config=section("btrfs", root_path=root))

    assert _refusal(instance, "btrfs") == f"mkdir {root}: no such file or directory"
    assert not Path(posixpath.dirname(root)).exists()


# ------------------------------------------------------------------------------------------------- devmapper


@clause("SNX-045", needs={"disk"})
def test_without_a_pool_it_is_not_configured(subject):
    """Rejects: a pool that is made, or assumed."""
    assert _refusal(subject, "devmapper").removesuffix(": skip plugin") == "devmapper not configured"


@clause("SNX-046", needs={"command"})
def test_devmapper_has_these_settings(subject):
    """Rejects: other keys or defaults."""
    dump = subprocess.run([*program(subject.address), "config", "default"], capture_output=True, check=True, timeout=20)

    assert tomllib.loads(dump.stdout.decode())["plugins"][f"{TYPE}.devmapper"] == {
        "root_path": "",
        "pool_name": "",
        "base_image_size": "",
        "async_remove": False,
        "discard_blocks": False,
        "fs_type": "",
        "fs_options": "",
    }


@clause("SNX-047", needs={"disk"})
@pytest.mark.parametrize("size", ["", "abc"])
def test_a_size_that_is_none_is_an_error(own, size):
    """Rejects: a size that nobody asked for."""
    instance = own(config=section("devmapper", pool_name="pool", base_image_size=size))

    assert _refusal(instance, "devmapper") == f"failed to parse base image size: '{size}': invalid size: '{size}'"


@clause("SNX-048", needs={"disk"})
def test_a_file_system_type_that_is_not_made_is_an_error(own):
    """Rejects: a type that the first snapshot only fails with."""
    instance = own(config=section("devmapper", pool_name="pool", base_image_size="64MB", fs_type="btrfs"))

    assert 'unsupported Filesystem Type: "btrfs"' in _refusal(instance, "devmapper")


# ------------------------------------------------------------------------------------------------- zfs and aufs


@clause("SNX-064", needs={"disk"})
def test_without_a_dataset_zfs_is_skipped(subject):
    """Rejects: an error; a directory that is made on another file system."""
    root = Path(f"{subject.root}/{TYPE}.zfs")

    assert _refusal(subject, "zfs") in (
        f"path {root} must be a zfs filesystem to be used with the zfs snapshotter: skip plugin",
        f"lstat {root}: no such file or directory: skip plugin",
    )
    assert not root.exists()


@clause("SNX-070", needs={"disk"})
def test_without_the_kernels_aufs_it_is_skipped_and_modprobe_is_quoted(subject):
    """Rejects: an error for want of a module, or a skip that does not say what was tried."""
    found = _refusal(subject, "aufs")

    tried = ""
    if shutil.which("modprobe") is None:
        tried = ' (modprobe aufs failed: exec: "modprobe": executable file not found in $PATH "")'
    else:
        done = subprocess.run(
            ["modprobe", "aufs"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20
        )
        if done.returncode:
            tried = f" (modprobe aufs failed: exit status {done.returncode} {quoted(done.stdout.decode())})"
    assert found == f"aufs is not supported{tried}: skip plugin"
