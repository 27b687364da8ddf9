"""Mutants of the snapshots area, in the layers: files, owners, modes and mounts, each with one mistake.

Layers are spoiled through their own mounts, as a snapshotter with that mistake would leave them.
"""

# ruff: noqa: SLF001, ARG001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from conformance.mutants._snapshots import (
    Labels,
    Method,
    everywhere,
    memory,
    mounter,
    owner,
    whole_seconds,
)
from conformance.mutants.engine import mutant, mutants
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    FailedPrecondition,
    NotFound,
)
from refimpl.contract.mounts import FileStat, FileType, Mount, RootFS
from refimpl.contract.snapshots import Kind

Edit = Callable[[RootFS, RootFS | None], None]


def spoiled_at_commit(edit: Edit) -> dict[str, Method]:
    """A commit that leaves something else than what was written: edit(the layer, its parent)."""

    def commit(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
        me = owner(original)
        with suppress(NotFound, FailedPrecondition), ExitStack() as mounted:
            parent = me.stat(ctx, key).parent
            below = None
            if parent:
                look = f"{key}-below"
                below = mounted.enter_context(mounter(me).mounted(ctx, me.view(ctx, look, parent)))
                mounted.callback(me.remove, ctx, look)
            edit(mounted.enter_context(mounter(me).mounted(ctx, me.mounts(ctx, key))), below)
        original(ctx, name, key, labels)

    return {"commit": commit}


def each_entry(edit: Callable[[RootFS, str, FileStat], None]) -> Edit:
    """An edit of every entry of the layer."""

    def all_of_them(root: RootFS, below: RootFS | None) -> None:
        for path, found in list(root.walk()):
            if path != "/" and root.exists(path):
                edit(root, path, found)

    return all_of_them


def spoiled_at_birth(edit: Callable[[RootFS], None], *, child: bool) -> dict[str, Method]:
    """A prepare that makes another tree: of children, or of snapshots without parent."""

    def prepare(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
        mounts = original(ctx, key, parent, labels)
        if bool(parent) is child:
            with mounter(owner(original)).mounted(ctx, mounts) as root:
                edit(root)
        return mounts

    return {"prepare": prepare}


def _files_below(below: RootFS | None) -> Iterator[tuple[str, FileStat]]:
    return (each for each in (below.walk() if below else ()) if each[1].type is FileType.FILE)


def _same_size_is_same(root: RootFS, below: RootFS | None) -> None:
    for path, old in _files_below(below):
        if below and root.exists(path) and root.lstat(path).size == old.size:
            root.write(path, below.read(path))


def _marks(root: RootFS, below: RootFS | None) -> None:
    for path, _ in _files_below(below):
        folder, name = posixpath.split(path)
        if not root.exists(path) and root.exists(folder):
            root.write(f"{folder.rstrip('/')}/.wh.{name}", b"")


def _comes_back(*, at_the_top: bool) -> Edit:
    def edit(root: RootFS, below: RootFS | None) -> None:
        for path, _ in _files_below(below):
            folder = posixpath.dirname(path)
            if below and (folder == "/") is at_the_top and not root.exists(path) and root.exists(folder):
                root.write(path, below.read(path))

    return edit


def _new_directories_are_emptied(root: RootFS, below: RootFS | None) -> None:
    for path, found in list(root.walk()) if below else ():
        if below and path != "/" and found.type is FileType.DIRECTORY and root.exists(path) and not below.exists(path):
            for name in root.listdir(path):
                root.rmtree(f"{path}/{name}")


def _directories_stay_with_their_owner(root: RootFS, below: RootFS | None) -> None:
    for path, old in below.walk() if below else ():
        if path != "/" and old.type is FileType.DIRECTORY and root.exists(path):
            root.lchown(path, old.uid, old.gid)


def _new_directories_are_roots(root: RootFS, below: RootFS | None) -> None:
    for path, found in list(root.walk()):
        if below and path != "/" and found.type is FileType.DIRECTORY and not below.exists(path):
            root.lchown(path, 0, 0)


def _without_set_uid(root: RootFS, path: str, found: FileStat) -> None:
    if found.type is FileType.FILE:
        root.chmod(path, found.mode & 0o1777)


def _without_attributes(root: RootFS, path: str, found: FileStat) -> None:
    for name in list(root.xattrs(path)):
        root.removexattr(path, name)


def _without_links(root: RootFS, path: str, found: FileStat) -> None:
    if found.type is FileType.FILE and root.lstat(path).links > 1:
        data = root.read(path)
        root.unlink(path)
        root.write(path, data)


def _without_nodes(root: RootFS, path: str, found: FileStat) -> None:
    if found.type is FileType.CHAR:
        root.unlink(path)


def _to_the_second(root: RootFS, path: str, found: FileStat) -> None:
    root.utime(path, whole_seconds(found.atime), whole_seconds(found.mtime))


mutants(
    "backend.snapshots",
    {
        "SNP-039": ("a rewrite of the same size is lost", spoiled_at_commit(_same_size_is_same)),
        "SNP-040": ("a marker of a deletion is visible", spoiled_at_commit(_marks)),
        "SNP-041": ("old entries shine through", spoiled_at_commit(_comes_back(at_the_top=False))),
        "SNP-042": ("the source of a move reappears", spoiled_at_commit(_comes_back(at_the_top=True))),
        "SNP-043": ("a renamed directory loses its content", spoiled_at_commit(_new_directories_are_emptied)),
        "SNP-044": ("directories keep their owner", spoiled_at_commit(_directories_stay_with_their_owner)),
        "SNP-045": ("a directory made again is owned by root", spoiled_at_commit(_new_directories_are_roots)),
        "SNP-046": ("set-uid bits are cleared", spoiled_at_commit(each_entry(_without_set_uid))),
        "SNP-047": ("extended attributes are dropped", spoiled_at_commit(each_entry(_without_attributes))),
        "SNP-048": ("links are turned into copies", spoiled_at_commit(each_entry(_without_links))),
        "SNP-050": ("device nodes are skipped", spoiled_at_commit(each_entry(_without_nodes))),
        "SNP-051": ("times are cut to the second", spoiled_at_commit(each_entry(_to_the_second))),
        "SNP-038": (
            "the directory keeps the mode of a temporary one",
            spoiled_at_birth(lambda root: root.chmod("/", 0o700), child=False),
        ),
        "SNP-052": (
            "the upper directory is owned by root",
            spoiled_at_birth(lambda root: root.lchown("/", 0, 0), child=True),
        ),
        "SNP-053": ("a child is private", spoiled_at_birth(lambda root: root.chmod("/", 0o700), child=True)),
    },
)


@mutant("SNP-009", "the first snapshot inherits the files of an earlier one", at="backend.snapshots", method="prepare")
def _inherits(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    if not parent:
        with mounter(owner(original)).mounted(ctx, mounts) as root:
            for path, data in memory(original).items():
                root.write(path, data)
            memory(original)["left"] = b"behind"
    return mounts


def _bind_of_the_parent(original: Method, *args: Any) -> list[Mount]:
    mounts: list[Mount] = original(*args)
    lower = [o.removeprefix("lowerdir=").split(":")[0] for o in mounts[-1].options if o.startswith("lowerdir=")]
    return [Mount("bind", lower[0], options=("rw", "rbind"))] if lower else mounts


def _cut_at_a_page(original: Method, *args: Any) -> list[Mount]:
    def cut(option: str) -> str:
        return ":".join(option.split(":")[:40]) if option.startswith("lowerdir=") else option

    return [replace(mount, options=tuple(map(cut, mount.options))) for mount in original(*args)]


mutants(
    "backend.overlayfs",
    {
        "SNP-010": ("an active layer is a bind of its parent", everywhere(_bind_of_the_parent, "prepare", "mounts")),
        "SNP-055": ("only forty layers are mounted", everywhere(_cut_at_a_page, "prepare", "view", "mounts")),
    },
)


def _writable(original: Method, *args: Any) -> list[Mount]:
    return [
        replace(mount, options=tuple("rw" if option == "ro" else option for option in mount.options))
        for mount in original(*args)
    ]


def _wiped(original: Method, ctx: CallContext, key: str) -> Any:
    mounts = original(ctx, key)
    with suppress(OSError), mounter(owner(original)).mounted(ctx, mounts) as root:
        for name in root.listdir("/"):
            root.rmtree(name)
    return mounts


def _shared_by_siblings(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    return memory(original).setdefault(parent, mounts) if parent else mounts


def _busy(me: Any, ctx: CallContext, key: str) -> bool:
    sources = {mount.source for mount in me.mounts(ctx, key)}
    return any(entry.mount.source in sources for entry in me._host.mounts.entries())


def _not_while_mounted(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    if _busy(owner(original), ctx, key):
        raise FailedPrecondition(f"{key}: device or resource busy")
    original(ctx, name, key, labels)


mutants(
    "backend.snapshots",
    {
        "SNP-036": ("a view is mounted writable", {"view": _writable}),
        "SNP-037": ("data lives in the mount", {"mounts": _wiped}),
        "SNP-054": ("siblings share one upper directory", {"prepare": _shared_by_siblings}),
        "SNP-056": ("a mounted snapshot cannot be committed", {"commit": _not_while_mounted}),
        "SNP-118": ("a number is given twice", {"prepare": _shared_by_siblings}),
    },
)


@mutant("SNP-027", "remove merges the changes into the parent", at="metadata.snapshots", method="remove")
def _merges(original: Method, ctx: CallContext, key: str) -> None:
    me = owner(original)
    info = me.stat(ctx, key)
    if info.kind is Kind.ACTIVE and info.parent and not key.startswith("merging"):
        mount = mounter(me._backend).mounted
        with mount(ctx, me.mounts(ctx, key)) as top:
            files = {path: top.read(path) for path, found in top.walk() if found.type is FileType.FILE}
        parent = me.view(ctx, "merging", info.parent)[-1]
        if parent.type == "bind":
            with mount(ctx, [Mount("bind", parent.source, options=("rw", "rbind"))]) as below:
                for path, data in files.items():
                    below.write(path, data)
        original(ctx, "merging")
    original(ctx, key)


@mutant("SNP-057", "a mounted snapshot cannot be removed", at="metadata.snapshots", method="remove")
def _waits_for_the_unmount(original: Method, ctx: CallContext, key: str) -> None:
    me = owner(original)
    if me.stat(ctx, key).kind is Kind.ACTIVE:
        sources = {mount.source for mount in me.mounts(ctx, key)}
        if any(entry.mount.source in sources for entry in me._backend._host.mounts.entries()):
            raise FailedPrecondition(f"{key}: device or resource busy")
    original(ctx, key)
