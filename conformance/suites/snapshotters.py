"""Snapshotters, what holds for each plugin: listed, started, configured, and where its files are (SNX-001 to SNX-006).

What overlayfs answers is in ``snapshotters_overlayfs``, its files in ``snapshotters_layers``, native in
``snapshotters_native``, and what those say that cannot be had in ``snapshotters_absent``.
"""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import tomllib

import pytest

from conformance import clause
from conformance.subjects.base import SubjectError
from conformance.suites._events import program
from conformance.suites._snapshots import ROOTED
from conformance.suites._snapshotters import (
    PLAIN,
    TYPE,
    UNUSABLE,
    entries,
    layer_of,
    looking,
    plugins,
    prepare,
    root_of,
    section,
)
from refimpl.contract.types import Platform

NO_CHECK: dict[str, str] = {
    "SNX-026": "it permits a second mount to fail and permits it to succeed: no answer would be wrong",
}
"""Clauses of the whole area that no check decides, and why; ``snapshotters_absent`` has more."""

DIRECTORIES = ("overlayfs", "native")
"""Snapshotters whose layers are directories below ROOT."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


# ------------------------------------------------------------------------------------------------- listed and started


@clause("SNX-001")
def test_every_snapshotter_is_listed_whether_it_works_or_not(own):
    """Rejects: a list of those that work, or an error beside a plugin that works."""
    instance = own(config=section("devmapper", pool_name="pool", base_image_size="abc"))

    listed = plugins(instance)

    assert {"devmapper", "native", "overlayfs", "zfs"} <= set(listed)
    for id, plugin in listed.items():
        expected = "OK" if plugin.init_err is None else "INVALID_ARGUMENT"
        assert prepare(instance, id).code == expected, f"{id}: {plugin.init_err}"
        if plugin.init_err is not None and "skip plugin" in plugin.init_err.message:
            assert plugin.init_err.message.endswith(": skip plugin"), id
    assert listed["devmapper"].init_err is not None
    assert "skip plugin" not in listed["devmapper"].init_err.message


@clause("SNX-001")
def test_every_snapshotter_says_for_which_platform_it_works(introspection, ctx):
    """Rejects: a platform for those that work only."""
    machine = platform.machine()
    mine = Platform("linux", _ARCHITECTURES.get(machine, machine), "")

    for plugin in introspection.plugins(ctx, [f"type=={TYPE}"]):
        if "address" not in plugin.exports:  # a proxy's platforms are those of its configuration
            assert [(p.os, p.architecture) for p in plugin.platforms] == [(mine.os, mine.architecture)], plugin.id


@clause("SNX-002")
def test_a_snapshotter_that_cannot_start_is_left_out(own):
    """Rejects: a daemon that does not start without its default snapshotter, or that hides why it is missing."""
    instance = own(config=section("overlayfs", root_path=UNUSABLE))

    instance.snapshotter("native").prepare(PLAIN, "works", labels=ROOTED)
    missing = prepare(instance, "overlayfs")
    assert (missing.code, "overlayfs" in missing.message) == ("INVALID_ARGUMENT", True), missing.message
    error = plugins(instance)["overlayfs"].init_err
    assert error is not None
    assert "name too long" in error.message


@clause("SNX-004")
def test_an_unknown_key_is_ignored(own):
    """Rejects: a snapshotter that is missing because of a word in its section."""
    instance = own(config=section("overlayfs", bogus_key=1))

    assert instance.snapshotter("overlayfs").prepare(PLAIN, "a", labels=ROOTED)


@clause("SNX-004")
def test_a_value_of_the_wrong_type_keeps_the_daemon_from_starting(own):
    """Rejects: a wrong value that is passed over, so that layers go to another place than was meant."""
    with pytest.raises(SubjectError, match=r"5|root_path"):
        own(config=section("overlayfs", root_path=5))


# ------------------------------------------------------------------------------------------------- where the files are


@clause("SNX-003", needs={"mount"})
@pytest.mark.parametrize("id", DIRECTORIES)
def test_by_default_all_is_in_the_plugins_own_directory(own, id):
    """Rejects: layers anywhere else, or a plugin that tells of another directory."""
    instance = own()
    root = root_of(instance)

    layer = layer_of(instance.snapshotter(id).prepare(PLAIN, "a", labels=ROOTED))

    assert layer.startswith(f"{root}/{TYPE}.{id}/")
    assert f"{TYPE}.{id}" in entries(instance, root)
    for plugin in plugins(instance).values():
        if "root" in plugin.exports:
            assert plugin.exports["root"] == f"{root}/{plugin.uri}"
    assert "root" in plugins(instance)["overlayfs"].exports


@clause("SNX-003", needs={"mount"})
@pytest.mark.parametrize("id", DIRECTORIES)
def test_with_root_path_all_is_there(own, tmp_path, id):
    """Rejects: a root_path that is told and not used, or the default directory beside it."""
    place = f"{tmp_path}/somewhere/else"
    instance = own(config=section(id, root_path=place))

    layer = layer_of(instance.snapshotter(id).prepare(PLAIN, "a", labels=ROOTED))

    assert layer.startswith(f"{place}/snapshots/")
    assert entries(instance, place) == ["metadata.db", "snapshots"]
    assert f"{TYPE}.{id}" not in entries(instance, root_of(instance))
    if id == "overlayfs":
        assert plugins(instance)[id].exports["root"] == place


@clause("SNX-005", needs={"mount"})
@pytest.mark.parametrize("id", DIRECTORIES)
def test_the_database_is_made_by_the_first_call_for_root_alone(own, tmp_path, id):
    """Rejects: a database that everybody can read, or one for every plugin that nobody uses."""
    instance = own(config=section(id, root_path=f"{tmp_path}/place"))
    assert entries(instance, f"{tmp_path}/place") == ["snapshots"]

    instance.snapshotter(id).prepare(PLAIN, "a", labels=ROOTED)

    with looking(instance, f"{tmp_path}/place") as fs:
        assert fs.listdir("/") == ["metadata.db", "snapshots"]
        assert oct(fs.lstat("/metadata.db").mode) == "0o600"


@clause("SNX-005", needs={"disk"})
@pytest.mark.parametrize("id", DIRECTORIES)
def test_nobody_else_may_open_the_database(own, tmp_path, id):
    """Rejects: two processes that write one file."""
    instance = own(config=section(id, root_path=f"{tmp_path}/place"))
    instance.snapshotter(id).prepare(PLAIN, "a", labels=ROOTED)

    file = os.open(tmp_path / "place" / "metadata.db", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(file)


# ------------------------------------------------------------------------------------------------- configuration


def _defaults(subject, id):
    """A snapshotter's section of the default configuration."""
    dump = subprocess.run([*program(subject.address), "config", "default"], capture_output=True, check=True, timeout=20)
    return tomllib.loads(dump.stdout.decode())["plugins"][f"{TYPE}.{id}"]


@clause("SNX-006", needs={"command"})
def test_overlayfs_has_these_settings(subject):
    """Rejects: other keys or defaults; 2.x has three more."""
    first = {"root_path": "", "upperdir_label": False}
    second = first | {"sync_remove": False, "slow_chown": False, "mount_options": []}

    assert _defaults(subject, "overlayfs") in (first, second)


@clause("SNX-030", needs={"command"})
def test_native_has_one_setting(subject):
    """Rejects: keys that nothing reads."""
    assert _defaults(subject, "native") == {"root_path": ""}
