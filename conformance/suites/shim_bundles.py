"""Shims, bundles on disk: what the daemon lays out, who may enter, and how it goes away (SHM-024 to 031)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from conformance import clause
from conformance.shim import processes
from conformance.shim.waiting import until
from conformance.suites._shim_daemon import (
    DAEMON,
    World,
    world,
)
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.errors import InvalidArgument, NotFound, Unknown
from refimpl.contract.types import TypedAny

ODD_SPEC = b'{ "ociVersion":"1.0.2",\n "x-unknown": [1, 2.50, "\\u00e4"] }'
"""A spec that nobody who reads and writes it anew gives back as it was."""


def mode(path):
    """The permission bits."""
    return stat.S_IMODE(os.lstat(path).st_mode)


@clause("SHM-024", needs=DAEMON)
def test_a_bundle_holds_the_spec_as_it_is_and_what_a_shim_needs(world: World):
    """Rejects: a spec that was read and written anew, and lost what the daemon does not know."""
    shim = world.shim()

    id = world.made(shim, spec=ODD_SPEC)

    bundle = world.bundle(id)
    assert sorted(entry.name for entry in bundle.iterdir()) == [
        "config.json", "log", "rootfs", "shim-binary-path", "work",
    ]  # fmt: skip
    assert (bundle / "config.json").read_bytes() == ODD_SPEC
    assert (bundle / "work").readlink() == world.work(id)
    assert (bundle / "shim-binary-path").read_text() == str(shim.binary)
    assert (bundle / "log").is_fifo()


@clause("SHM-025", needs=DAEMON)
def test_a_bundle_is_open_to_nobody_else(world: World):
    """Rejects: a configuration with secrets that every user can read."""
    id = world.made(world.shim())
    bundle, work = world.bundle(id), world.work(id)

    found = {
        "bundle": mode(bundle), "rootfs": mode(bundle / "rootfs"), "work": mode(work), "log": mode(bundle / "log"),
        "shim-binary-path": mode(bundle / "shim-binary-path"),
        "namespaces": {mode(bundle.parent), mode(work.parent)},
        "plugins": {mode(bundle.parent.parent), mode(work.parent.parent)},
    }  # fmt: skip

    assert found == {
        "bundle": 0o700, "rootfs": 0o711, "work": 0o711, "log": 0o700, "shim-binary-path": 0o600,
        "namespaces": {0o711}, "plugins": {0o711},
    }  # fmt: skip


@clause("SHM-026", needs=DAEMON)
@pytest.mark.parametrize(
    "mappings",
    [
        pytest.param([{"containerID": 0, "hostID": 12345, "size": 65536}], id="mapped"),
        pytest.param([{"containerID": 1, "hostID": 12345, "size": 65536}], id="another group"),
        pytest.param([{"containerID": 0, "hostID": 0, "size": 65536}], id="to itself"),
    ],
)
def test_the_mapped_group_may_enter_the_bundle(world: World, mappings):
    """Rejects: a bundle that is open to all, for the sake of one."""
    spec = {"ociVersion": "1.0.2", "linux": {"gidMappings": mappings, "uidMappings": mappings}}

    id = world.made(world.shim(), spec=spec)

    found = world.bundle(id).stat()
    entered = mappings[0]["containerID"] == 0 and mappings[0]["hostID"]
    wanted = (0o710, 0, 12345) if entered else (0o700, 0, 0)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == wanted


@clause("SHM-027", needs=DAEMON)
def test_a_spec_that_is_no_json_starts_no_shim(world: World):
    """Rejects: a shim that has to find out by itself."""
    shim = world.shim()
    id = world.container(shim, spec=b"not json")

    with pytest.raises(Unknown):
        world.create(id)

    assert shim.record() == []
    assert not world.there(id)


@clause("SHM-028", needs=DAEMON)
@pytest.mark.parametrize("id", ["../x", "", "a/b", "x" * 77])
def test_an_id_that_is_no_name_reaches_no_directory(world: World, id):
    """Rejects: a path made of whatever came."""
    with pytest.raises(NotFound):
        world.create(id)
    record = Container(id, runtime=RuntimeInfo(str(world.shim().binary)), spec=TypedAny("x", b"{}"))
    with pytest.raises(InvalidArgument):
        world.containers.create(world.ctx, record)
    assert not (world.bundle("x").parent.parent / "x").exists()


@clause("SHM-029", needs=DAEMON)
def test_nothing_is_left_of_a_bundle(world: World):
    """Rejects: a tree that is deleted while something of the host's is mounted in it."""
    shim = world.shim()
    kept = world.folder / "kept"
    kept.mkdir()
    (kept / "file").write_text("of the host")
    id = world.made(shim)
    # As a shim does with the mounts of a Create.
    subprocess.run(["mount", "--bind", kept, world.bundle(id) / "rootfs"], check=True)

    world.delete(id)

    bundle = world.bundle(id)
    gone = (bundle, bundle.parent / f".{id}", world.work(id))
    assert until(lambda: not any(path.exists() for path in gone)), [path for path in gone if path.exists()]
    assert processes.mounts_below(bundle) == []
    assert (kept / "file").read_text() == "of the host"


@clause("SHM-030", needs=DAEMON)
def test_a_root_file_system_with_somebodys_files_is_never_wiped(world: World):
    """Rejects: the removal of whatever lies in rootfs."""
    shim = world.shim()
    id = world.made(shim)
    marker = world.bundle(id) / "rootfs" / "marker"
    marker.write_text("mine")

    world.delete(id)
    assert world.forgotten(id)

    assert marker.read_text() == "mine"
    with pytest.raises(Unknown, match="file exists"):
        world.create(id)
    assert marker.read_text() == "mine"


@clause("SHM-031", needs=DAEMON)
def test_a_stale_work_directory_does_not_matter(world: World):
    """Rejects: a create that fails for what an earlier one left."""
    id = world.container(world.shim())
    work = world.work(id)
    work.mkdir(parents=True)
    (work / "stale").write_text("x")

    world.create(id)

    assert work.is_dir()
    assert not (work / "stale").exists()
