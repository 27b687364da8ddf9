"""How the six start on a machine: what they export, read from their sections, and say when they cannot work."""

from __future__ import annotations

import platform
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from refimpl.backends.real.snapshotters import absent, overlay
from refimpl.backends.real.snapshotters.overlay import OverlayLayers
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.introspection import PluginInfo
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Cleaner, Info, Snapshotter
from refimpl.kernel import Plugin, assembled
from refimpl.kernel.config import Configuration, Section
from refimpl.linux.mountinfo import Mounted
from tests.acceptance.daemons import containerd, running
from tests.backends.real.snapshotters.bench import CTX, LOG, Bench, snapshotter

TYPE = "io.containerd.snapshotter.v1"


@contextmanager
def booted(tmp_path: Path, sections: Mapping[str, Mapping[str, object]] | None = None) -> Iterator[dict[str, Plugin]]:
    """The snapshotter plugins of a kernel with real backends, by id."""
    configuration = Configuration(
        plugins={f"{TYPE}.{id}": Section(section) for id, section in (sections or {}).items()}
    )
    with assembled(
        root=tmp_path / "root", state=tmp_path / "state", backends="real", configuration=configuration
    ) as plugins:
        yield plugins.get_by_type(TYPE)


def errors(plugins: Mapping[str, Plugin]) -> dict[str, str]:
    return {id: str(plugin.error) for id, plugin in plugins.items() if plugin.error is not None}


@pytest.mark.root
@pytest.mark.debian("containerd")
def test_all_six_say_what_those_of_containerd_say(tmp_path: Path) -> None:
    with running(containerd(tmp_path / "theirs")) as daemon, Client(str(daemon.socket)) as client:
        theirs = {p.id: p for p in client.introspection.plugins(CallContext(), [f"type=={TYPE}"])}
        root = str(daemon.root)

    with booted(tmp_path / "ours") as ours:

        def told(plugin: PluginInfo) -> str | None:
            moved = str(tmp_path / "ours/root")
            return None if plugin.init_err is None else plugin.init_err.message.replace(root, moved)

        assert {id: errors(ours).get(id) for id in ours} == {id: told(plugin) for id, plugin in theirs.items()}
        for id, plugin in ours.items():
            moved = {key: value.replace(root, str(tmp_path / "ours/root")) for key, value in theirs[id].exports.items()}
            assert plugin.exports == moved, id
        directories = [
            sorted(path.name for path in Path(top).glob(f"{TYPE}.*")) for top in (root, tmp_path / "ours/root")
        ]
        assert directories[0] == directories[1]


def test_two_work_on_any_machine(tmp_path: Path) -> None:
    with booted(tmp_path) as plugins:
        assert {"native", "overlayfs"} <= set(plugins) - set(errors(plugins))
        for id in ("native", "overlayfs"):
            made = plugins[id].instance()
            assert isinstance(made, Cleaner)
            made.prepare(CTX, "a")  # type: ignore[attr-defined]  # a snapshotter
            assert (tmp_path / "root" / f"{TYPE}.{id}" / "metadata.db").stat().st_mode & 0o777 == 0o600


def test_root_path_is_the_effective_directory(tmp_path: Path) -> None:
    place = tmp_path / "some" / "where"
    with booted(tmp_path, {id: {"root_path": str(place / id)} for id in ("native", "overlayfs", "zfs")}) as plugins:
        assert plugins["overlayfs"].exports == {"root": str(place / "overlayfs")}
        assert plugins["native"].exports == {}
        assert sorted(path.name for path in place.iterdir()) == ["native", "overlayfs"], "zfs makes none"
        assert not list((tmp_path / "root").glob(f"{TYPE}.overlayfs"))


def test_a_root_that_cannot_be_made_is_an_error_of_that_plugin_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with booted(tmp_path, {"overlayfs": {"root_path": str(tmp_path / "file/root")}}) as plugins:
        assert "not a directory" in errors(plugins)["overlayfs"]
        assert "native" not in errors(plugins)


@pytest.mark.parametrize(
    "section,text",
    [
        ({}, "devmapper not configured"),
        ({"pool_name": "p"}, "failed to parse base image size: '': invalid size: ''"),
        ({"pool_name": "p", "base_image_size": "abc"}, "failed to parse base image size: 'abc': invalid size: 'abc'"),
        (
            {"pool_name": "p", "base_image_size": "64MB", "fs_type": "btrfs"},
            '1 error occurred:\n\t* unsupported Filesystem Type: "btrfs"\n\n',
        ),
    ],
)
def test_devmapper_says_what_is_wrong_with_its_section(tmp_path: Path, section: dict[str, str], text: str) -> None:
    with booted(tmp_path, {"devmapper": section}) as plugins:
        assert errors(plugins)["devmapper"] == text


def test_devmapper_without_its_program_or_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"devmapper": {"pool_name": "p", "base_image_size": "64MB", "root_path": str(tmp_path / "dm")}}
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with booted(tmp_path, section) as plugins:
        assert errors(plugins)["devmapper"] == 'exec: "dmsetup": executable file not found in $PATH'
    assert (tmp_path / "dm").stat().st_mode & 0o777 == 0o750

    for script, text in (
        ("echo /dev/mapper/control: open failed: No such device >&2; exit 1", "no such device"),
        ("exit 3", "exit status 3"),
        ("exit 0", "layers on a thin pool are not supported by this implementation yet: skip plugin"),
    ):
        (tools / "dmsetup").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "dmsetup").chmod(0o755)
        with booted(tmp_path, section) as plugins:
            assert errors(plugins)["devmapper"] == text


def test_a_pool_s_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    section = {"pool_name": "p", "base_image_size": "64MB", "root_path": str(tmp_path / "file/dm")}
    with booted(tmp_path, {"devmapper": section}) as plugins:
        told = errors(plugins)["devmapper"]
    assert told.startswith(f"failed to create root directory: {tmp_path}/file/dm: mkdir {tmp_path}/file")


def test_btrfs_makes_one_directory_and_not_two(tmp_path: Path) -> None:
    deep = tmp_path / "missing" / "deep"
    with booted(tmp_path, {"btrfs": {"root_path": str(deep)}}) as plugins:
        assert errors(plugins)["btrfs"] == f"mkdir {deep}: no such file or directory"
        assert plugins["btrfs"].exports == {"root": str(deep)}


@pytest.mark.parametrize(
    "type,text",
    [
        ("btrfs", "layers on btrfs are not supported by this implementation yet: skip plugin"),
        ("xfs", "path {0} (xfs) must be a btrfs filesystem to be used with the btrfs snapshotter: skip plugin"),
    ],
)
def test_btrfs_goes_by_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, text: str) -> None:
    monkeypatch.setattr(absent, "mount_of", lambda path: Mounted("/", type, "/dev/x"))
    with booted(tmp_path) as plugins:
        assert errors(plugins)["btrfs"] == text.format(tmp_path / "root" / f"{TYPE}.btrfs")


def test_zfs_goes_by_what_is_mounted_at_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "pool"
    root.mkdir()
    skipped = f"path {root} must be a zfs filesystem to be used with the zfs snapshotter: skip plugin"
    for point, type, text in (
        (root, "zfs", "layers on zfs are not supported by this implementation yet: skip plugin"),
        (root, "fuse.zfs", skipped),
        (tmp_path, "zfs", skipped),
    ):
        monkeypatch.setattr(absent, "mount_of", lambda path, point=point, type=type: Mounted(str(point), type, "tank"))
        with booted(tmp_path, {"zfs": {"root_path": str(root)}}) as plugins:
            assert errors(plugins)["zfs"] == text


def test_aufs_goes_by_the_kernel_and_tells_of_modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, table = tmp_path / "bin", tmp_path / "filesystems"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(absent, "_FILESYSTEMS", table)
    table.write_text("nodev\tsysfs\n\text4\n")
    with booted(tmp_path) as plugins:
        assert errors(plugins)["aufs"] == (
            'aufs is not supported (modprobe aufs failed: exec: "modprobe": executable file not found in $PATH ""): '
            "skip plugin"
        )
    (tools / "modprobe").write_text("#!/bin/sh\n[ $1 = aufs ] || exit 9\necho 'no \"aufs\"'\nexit 1\n")
    (tools / "modprobe").chmod(0o755)
    with booted(tmp_path) as plugins:
        assert errors(plugins)["aufs"] == (
            'aufs is not supported (modprobe aufs failed: exit status 1 "no \\"aufs\\"\\n"): skip plugin'
        )
    table.write_text("nodev\tsysfs\nnodev\taufs\n")
    with booted(tmp_path) as plugins:
        assert errors(plugins)["aufs"] == "layers on aufs are not supported by this implementation yet: skip plugin"


# --- what overlayfs finds out about its kernel


def test_an_index_that_is_there_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        index = tmp_path / "index"
        index.touch() if there else index.unlink()
        monkeypatch.setattr(overlay, "INDEX", index)
        bench = Bench("overlayfs", tmp_path / str(there))
        bench.layer("base")
        assert ("index=off" in bench.snapshotter.prepare(CTX, "a", "base")[0].options) is there
        bench.snapshotter.close()


@pytest.mark.parametrize(
    "inside,type,release,mountable,wanted",
    [
        (False, "ext4", "6.1.0", True, False),
        (True, "ext4", "6.1.0", False, True),
        (True, "ext4", "5.11.0-rc1", False, True),
        (True, "tmpfs", "6.1.0", True, False),
        (True, "ext4", "5.10.99", True, True),
        (True, "ext4", "4.19.0", False, False),
        (True, "ext4", "unheard of", True, True),
    ],
)
def test_userxattr_is_for_user_namespaces(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: bool,
    type: str,
    release: str,
    mountable: bool,
    wanted: bool,
) -> None:
    monkeypatch.setattr(overlay, "in_user_namespace", lambda: inside)
    monkeypatch.setattr(overlay, "filesystem_type", lambda path: type)
    monkeypatch.setattr(platform, "release", lambda: release)
    tried = []

    def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
        tried.append(data.split(",", maxsplit=1)[0])
        if not mountable:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(overlay, "mount", mount)
    monkeypatch.setattr(overlay, "unmount", lambda target: None)
    made = snapshotter(tmp_path / "root", OverlayLayers(tmp_path / "root", LOG))
    made.prepare(CTX, "a")
    made.commit(CTX, "base", "a")

    assert ("userxattr" in made.prepare(CTX, "b", "base")[0].options) is wanted
    assert tried == (["userxattr"] if inside and type != "tmpfs" and not release.startswith(("6.1", "5.11")) else [])
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["metadata.db", "snapshots"]
    made.close()


def test_the_label_says_where_a_layer_is(tmp_path: Path) -> None:
    made = snapshotter(tmp_path / "root", OverlayLayers(tmp_path / "root", LOG, upperdir_label=True))
    made.prepare(CTX, "a", labels={"own": "1"})
    label = "containerd.io/snapshot/overlay.upperdir"

    assert dict(made.stat(CTX, "a").labels) == {"own": "1", label: f"{tmp_path}/root/snapshots/1/fs"}
    made.update(CTX, Info("a", labels={"own": "2"}))
    made.close()
    plain = snapshotter(tmp_path / "root", OverlayLayers(tmp_path / "root", LOG))
    assert dict(plain.stat(CTX, "a").labels) == {"own": "2"}, "computed, and not stored"
    plain.close()


# --- many at once


def test_writers_wait_for_each_other_and_readers_for_nobody(tmp_path: Path) -> None:
    bench = Bench("native", tmp_path / "root")
    bench.layer("base")
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                key = f"{number}-{turn}"
                bench.snapshotter.prepare(CTX, key, "base")
                bench.snapshotter.stat(CTX, key)
                bench.snapshotter.usage(CTX, key)
                bench.snapshotter.remove(CTX, key)
        except (ContainerdError, OSError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert (bench.keys(), bench.entries()) == (["base"], ["1"])
    bench.snapshotter.close()


# --- the same root, in the real daemon's hands


def number(mounts: Sequence[Mount]) -> int:
    """The number of an active snapshot."""
    [mount] = mounts
    [layer] = [o for o in mount.options if o.startswith("upperdir=")] or [mount.source]
    return int(layer.partition("/snapshots/")[2].split("/")[0])


@pytest.mark.root
@pytest.mark.debian("containerd")
@pytest.mark.parametrize("name", ["native", "overlayfs"])
def test_a_root_goes_to_containerd_and_back(tmp_path: Path, name: str) -> None:
    ctx = CallContext("default")
    rooted = {"containerd.io/gc.root": "1"}
    daemon = containerd(tmp_path)
    with running(daemon), Client(str(daemon.socket)) as client:
        theirs: Snapshotter = client.snapshotter(name)
        theirs.prepare(ctx, "k1", labels=rooted)
        theirs.commit(ctx, "n1", "k1", rooted)
        mounts = theirs.prepare(ctx, "k2", "n1", {**rooted, "containerd.io/snapshot/l": "1"})
        view, usage = theirs.view(ctx, "v", "n1", rooted), theirs.usage(ctx, "n1")

    bench = Bench(name, daemon.root / f"{TYPE}.{name}")
    assert bench.keys() == ["default/2/n1", "default/3/k2", "default/4/v"]
    assert bench.snapshotter.mounts(CTX, "default/3/k2") == mounts
    assert bench.snapshotter.mounts(CTX, "default/4/v") == view
    assert bench.snapshotter.usage(CTX, "default/2/n1") == usage
    assert dict(bench.snapshotter.stat(CTX, "default/3/k2").labels) == {"containerd.io/snapshot/l": "1"}
    bench.snapshotter.commit(CTX, "default/3/k2x", "default/3/k2")
    bench.snapshotter.prepare(CTX, "default/3/k2", "default/3/k2x")
    bench.snapshotter.close()

    with running(daemon), Client(str(daemon.socket)) as client:
        theirs = client.snapshotter(name)
        assert number(theirs.mounts(ctx, "k2")) == 4, "that of the snapshot made meanwhile"
        assert number(theirs.prepare(ctx, "k3", "n1", rooted)) == 5
        theirs.remove(ctx, "k3")
        theirs.remove(ctx, "v")
    shutil.rmtree(tmp_path / "root")
