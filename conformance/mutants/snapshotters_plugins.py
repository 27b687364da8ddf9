"""Mutants of the snapshotters area: how plugins are listed, started and placed, and native's copies."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance.mutants._snapshots import Labels, Method, everywhere, owner
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import each
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType, Mount
from refimpl.contract.snapshots import Kind, Usage
from refimpl.kernel import Registration, hookimpl

TYPE = "io.containerd.snapshotter.v1"
OVERLAYFS, NATIVE = f"{TYPE}.overlayfs", f"{TYPE}.native"
ROOT = "/fake/root"
"""The fake daemon's root directory."""


# --------------------------------------------------------------------------------------- listed and started


def listed(edit: Any) -> Mapping[str, Method]:
    """Snapshotter plugins that are listed in another way."""
    return {"plugins": each(lambda plugin: edit(plugin) if plugin.type == TYPE else plugin)}


def _exports(plugin: Any, **exports: str) -> Any:
    return replace(plugin, exports={**plugin.exports, **exports})


mutants(
    "service.introspection",
    {
        "SNX-001": (
            "those that do not work are left out",
            {"plugins": each(lambda plugin: plugin, keep=lambda plugin: plugin.init_err is None)},
        ),
        "SNX-002": ("why it is missing is not told", listed(lambda plugin: replace(plugin, init_err=None))),
        "SNX-003": (
            "the default directory is told whatever is configured",
            listed(lambda plugin: _exports(plugin, root=f"{ROOT}/{plugin.uri}")),
        ),
        "SNX-028": (
            "a feature is claimed",
            listed(lambda plugin: replace(plugin, capabilities=("rebase",)) if plugin.uri == OVERLAYFS else plugin),
        ),
    },
)
mutants(
    "service.introspection",
    {
        "SNX-001": ("no platform", listed(lambda plugin: replace(plugin, platforms=()))),
        "SNX-003": ("no directory is told", listed(lambda plugin: replace(plugin, exports={}))),
    },
)


@hooked("SNX-002", "a daemon ends when a snapshotter of its own fails")
class _Strict:
    def conformance_kernel(self, kernel: Any) -> None:
        def boot(original: Method) -> Any:
            booted = original()
            if any(plugin.uri == OVERLAYFS and plugin.error for plugin in kernel.plugins):
                raise RuntimeError("the default snapshotter failed")
            return booted

        change(kernel, boot=boot)


@hooked("SNX-004", "an unknown key keeps a plugin from loading")
class _Fussy:
    def conformance_kernel(self, kernel: Any) -> None:
        kernel._strict = True


@hooked("SNX-003", "root_path is told and not used")
class _Elsewhere:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri in {OVERLAYFS, NATIVE}:
            instance._layers._snapshots = f"{ROOT}/{registration.uri}/snapshots"
            instance._host.fs.makedirs(instance._layers._snapshots, 0o700)
        return None


def _readable(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    me = owner(original)
    me._host.fs.chmod(f"{me._layers.root}/metadata.db", 0o644)
    return mounts


mutants("backend.snapshots", {"SNX-005": ("everybody can read the database", {"prepare": _readable})})


@hooked("SNX-005", "a plugin that is not used has a database")
class _Early:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.type == TYPE:
            list(instance.walk(CallContext()))
        return None


# --------------------------------------------------------------------------------------- native


def _private(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    owner(original)._host.fs.chmod(mounts[0].source, 0o700)
    return mounts


def _deeper(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    [mount] = original(ctx, key, parent, labels)
    tree = f"{mount.source}/fs"
    owner(original)._host.fs.mkdir(tree)
    return [replace(mount, source=tree)]


def _writable(original: Method, *args: Any) -> list[Mount]:
    return [replace(mount, options=("rbind", "rw")) for mount in original(*args)]


def _turned(original: Method, *args: Any) -> list[Mount]:
    return [replace(mount, options=mount.options[::-1]) for mount in original(*args)]


mutants(
    NATIVE,
    {
        "SNX-030": ("the mode is that of a temporary directory", {"prepare": _private}),
        "SNX-031": ("views are writable", {"view": _writable}),
    },
)
mutants(
    NATIVE,
    {
        "SNX-030": ("the tree is one level deeper", {"prepare": _deeper}),
        "SNX-031": ("options in the other order", everywhere(_turned, "prepare", "view")),
    },
)


def _files(inode: Any, below: Any) -> None:
    """Put the parent's files to the places of their copies."""
    for name, child in list(inode.children.items()):
        if child.is_directory:
            _files(child, below.children[name])
        elif child.type is FileType.FILE:
            inode.children[name] = below.children[name]


def _linked(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    me = owner(original)
    if parent:
        with me._store.view() as records:
            below = f"{me._layers._snapshots}/{records.get(parent).id}"
        _files(me._host.mounts.origin(mounts[0].source)[1], me._host.mounts.origin(below)[1])
    return mounts


def _owned_by_root(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    fs = owner(original)._host.fs
    for path, _ in list(fs.walk(mounts[0].source)):
        fs.lchown(path, 0, 0)
    return mounts


mutants(NATIVE, {"SNX-032": ("files are links to the parent's", {"prepare": _linked})})
mutants(NATIVE, {"SNX-032": ("owners are lost", {"prepare": _owned_by_root})})


def _copied(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    if not parent:
        return mounts
    me = owner(original)
    with me._store.view() as records:
        place = f"{me._layers._snapshots}/{records.get(key).id}"
    me._host.fs.mkdir(place)
    return [replace(mounts[0], source=place)]


def _takes_the_parent(original: Method, ctx: CallContext, key: str) -> None:
    me = owner(original)
    view = me.stat(ctx, key).kind is Kind.VIEW
    sources = [mount.source for mount in me.mounts(ctx, key)] if view else []
    original(ctx, key)
    for source in sources:
        if me._host.fs.exists(source):
            me._host.fs.rmtree(source)


mutants(NATIVE, {"SNX-033": ("a view is a copy", {"view": _copied})})
mutants(NATIVE, {"SNX-033": ("the removal of a view takes the parent's tree", {"remove": _takes_the_parent})})


@mutant("SNX-034", "usage is the difference to the parent", at=NATIVE, method="usage")
def _difference(original: Method, ctx: CallContext, key: str) -> Usage:
    usage: Usage = original(ctx, key)
    parent = owner(original).stat(ctx, key).parent
    below: Usage = original(ctx, parent) if parent else Usage()
    return Usage(max(0, usage.size - below.size), max(0, usage.inodes - below.inodes))


@hooked("SNX-035", "a copy that is missing is an error")
class _Missing:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        def remove(original: Method, record: Any) -> Any:
            path = f"{instance._layers._snapshots}/{record.id}"
            if not instance._host.fs.exists(path):
                raise Unknown(f"failed to rename: {path}: no such file or directory")
            return original(record)

        if registration.uri == NATIVE:
            change(instance._layers, remove=remove)
        return None


def _sweeps(original: Method, ctx: CallContext, key: str) -> None:
    original(ctx, key)
    me = owner(original)
    for name in me._host.fs.listdir(me._layers._snapshots):
        if name.startswith(("new-", "rm-")):
            me._host.fs.rmtree(f"{me._layers._snapshots}/{name}")


mutants(NATIVE, {"SNX-035": ("a removal takes strays with it", {"remove": _sweeps})})
