"""Words for the checks of single snapshotters: directories of the subject's machine, and mounts taken apart."""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from conformance.subjects.base import Subject
from conformance.suites._gc import scheduler
from conformance.suites._snapshots import ROOTED, send
from conformance.wire import Answer, Wire
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.introspection import PluginInfo
from refimpl.contract.mounts import FileStat, FileType, Mount, RootFS
from refimpl.contract.snapshots import Snapshotter

TYPE = "io.containerd.snapshotter.v1"

PLAIN = CallContext(namespace="conform")
"""Who calls an instance that belongs to one check."""

OTHER = CallContext(namespace="conform-other")

UNUSABLE = "/tmp/" + "x" * 300  # never made: no file system has names of that length
"""A directory that cannot be made by anybody."""


UNDISTURBED = scheduler(startup_delay="1h", mutation_threshold=100_000)
"""A configuration with which nothing is collected unless a check asks for it."""


def section(id: str, **settings: object) -> str:
    """The section of one snapshotter in a configuration."""
    lines = [f"  {key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f'[plugins."{TYPE}.{id}"]', *lines, ""])


def plugins(subject: Subject) -> dict[str, PluginInfo]:
    """The snapshotter plugins of a daemon, by id."""
    assert subject.introspection is not None, "asked for only where there is introspection"
    return {plugin.id: plugin for plugin in subject.introspection.plugins(CallContext(), [f"type=={TYPE}"])}


def prepare(subject: Subject, id: str) -> Answer:
    """What the service says when it is asked for a snapshot, also of a snapshotter that is not there."""
    wire = Wire(subject.address)
    try:
        return send(wire, PLAIN, "Prepare", pb.PrepareSnapshotRequest(snapshotter=id, key=f"key-{id}", labels=ROOTED))
    finally:
        wire.close()


def root_of(subject: Subject) -> str:
    """The daemon's own root directory, which the content store's export tells."""
    assert subject.introspection is not None, "asked for only where there is introspection"
    [content] = subject.introspection.plugins(CallContext(), ["type==io.containerd.content.v1"])
    return posixpath.dirname(content.exports["root"])


def looking(subject: Subject, path: str, *, writable: bool = False) -> AbstractContextManager[RootFS]:
    """A directory of the machine that the subject lives on, whatever is in it: ``with looking(...) as fs:``."""
    assert subject.mounter is not None, "asked for only where `mount` is offered"
    mode = () if writable else ("ro",)
    return subject.mounter.mounted(PLAIN, [Mount("bind", path, options=("bind", *mode))])


def entries(subject: Subject, path: str) -> list[str]:
    """Names in such a directory."""
    with looking(subject, path) as fs:
        return fs.listdir("/")


def options(mounts: Sequence[Mount]) -> dict[str, str]:
    """The options of the only mount; those without a value have an empty one."""
    [mount] = mounts
    return {name: value for name, _, value in (option.partition("=") for option in mount.options)}


def layer_of(mounts: Sequence[Mount]) -> str:
    """Where an active snapshot of overlayfs or native is written to."""
    return options(mounts).get("upperdir") or mounts[-1].source


def lowers(mounts: Sequence[Mount]) -> list[str]:
    """The lower directories of an overlay, as listed."""
    return options(mounts)["lowerdir"].split(":")


def snapshots_of(layer: str) -> str:
    """ROOT/snapshots, given a layer's directory in it."""
    return layer[: layer.rindex("/snapshots/")] + "/snapshots"


def number_of(layer: str) -> int:
    """The number of a snapshot, given its layer's directory."""
    return int(layer.removeprefix(snapshots_of(layer)).split("/")[1])


def layer(
    snapshotter: Snapshotter, ctx: CallContext, name: str, parent: str = "", labels: Mapping[str, str] = ROOTED
) -> str:
    """Make an empty committed layer; answers with its directory."""
    key = f"{name}-{uuid.uuid4().hex[:8]}"
    made = layer_of(snapshotter.prepare(ctx, key, parent, labels))
    snapshotter.commit(ctx, name, key, labels)
    return made


def allocated(fs: RootFS) -> tuple[int, int]:
    """Bytes that a tree takes, each inode once, and the number of inodes; its root included."""
    blocks = {found.inode: found.blocks * 512 for _, found in fs.walk()}
    return sum(blocks.values()), len(blocks)


def properties(fs: RootFS) -> dict[str, object]:
    """All that makes a tree what it is, by path, but inode numbers; names of one file are listed together.

    When a directory was changed does not count: a copy changes it, and 1.6.20 leaves it at that.
    """
    found = dict(fs.walk())
    names: dict[int, list[str]] = {}
    for path, stat in found.items():
        names.setdefault(stat.inode, []).append(path)
    return {
        path: (
            stat.type, stat.mode, stat.uid, stat.gid, stat.device, dict(fs.xattrs(path)), sorted(names[stat.inode]),
            None if stat.type is FileType.DIRECTORY else stat.mtime, _content(fs, path, stat),
        )
        for path, stat in found.items()
    }  # fmt: skip


def _content(fs: RootFS, path: str, stat: FileStat) -> object:
    if stat.type is FileType.FILE:
        return fs.read(path)
    return fs.readlink(path) if stat.type is FileType.SYMLINK else None
