"""Mutants of the snapshotters area: each snapshotter's answers, files and numbers, each with one mistake.

overlayfs is here, native and the plugins in general are in ``snapshotters_plugins``. Clauses about file systems of the
machine, and about the daemon's command line, have none: the fakes have neither.
"""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from conformance.mutants import snapshotters_plugins  # it registers its own
from conformance.mutants._snapshots import Labels, Method, everywhere, memory, owner
from conformance.mutants.engine import change, hooked, mutant, mutants
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.kernel import Registration, hookimpl

OVERLAYFS = "io.containerd.snapshotter.v1.overlayfs"
LABEL = "containerd.io/snapshot/overlay.upperdir"

Edit = Callable[[Mount], Mount]


def answered(edit: Edit, *names: str) -> dict[str, Method]:
    """Answers in which every mount is another one (of prepare, view and mounts unless named)."""

    def method(original: Method, *args: Any, **kwargs: Any) -> list[Mount]:
        return [edit(mount) for mount in original(*args, **kwargs)]

    return everywhere(method, *(names or ("prepare", "view", "mounts")))


def with_options(edit: Callable[[tuple[str, ...]], Sequence[str]], *, type: str = "overlay") -> Edit:
    """Other options in mounts of one type."""
    return lambda mount: replace(mount, options=tuple(edit(mount.options))) if mount.type == type else mount


def each_option(edit: Callable[[str], str], *, type: str = "overlay") -> Edit:
    """Each option of mounts of one type is edited; an empty one is left out."""
    return with_options(lambda options: [new for new in map(edit, options) if new], type=type)


def lowerdir(edit: Callable[[list[str]], list[str]]) -> Edit:
    """Another list of lower directories."""

    def changed(option: str) -> str:
        name, _, value = option.partition("=")
        return f"lowerdir={':'.join(edit(value.split(':')))}" if name == "lowerdir" else option

    return each_option(changed)


def folder(me: Any, key: str) -> str:
    """The directory of a snapshot in ROOT/snapshots."""
    with me._store.view() as records:
        return f"{me._layers._snapshots}/{records.get(key).id}"


def spoiled(edit: Callable[[Any, str], object], *names: str) -> dict[str, Method]:
    """Creations after which the directory is not as it should be: edit(the fake disk, its path)."""

    def method(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
        mounts = original(ctx, key, parent, labels)
        me = owner(original)
        edit(me._host.fs, folder(me, key))
        return mounts

    return everywhere(method, *(names or ("prepare",)))


def _no_lower(mount: Mount) -> Mount:
    return Mount("overlay", "overlay", options=("lowerdir=",)) if mount.type == "bind" else mount


mutants(
    "backend.overlayfs",
    {
        "SNX-009": ("an overlay without lower directories", answered(_no_lower, "prepare", "view")),
        "SNX-010": (
            "the work directory is on another file system",
            answered(each_option(lambda option: "workdir=/work" if option.startswith("workdir=") else option)),
        ),
        "SNX-011": ("base first", answered(lowerdir(lambda lower: lower[::-1]))),
        "SNX-013": (
            "a view has an upper directory",
            answered(with_options(lambda options: [*options, "workdir=/w", "upperdir=/u"]), "view"),
        ),
        "SNX-014": ("index=off is left out", answered(each_option(lambda option: option.replace("index=off", "")))),
        "SNX-015": ("userxattr is always there", answered(with_options(lambda options: ["userxattr", *options]))),
        "SNX-025": (
            "mount_options are for binds too",
            answered(with_options(lambda options: [*options, "volatile"], type="bind")),
        ),
        "SNX-029": ("the list is cut at a page", answered(lowerdir(lambda lower: lower[:40]))),
    },
)

mutants(
    "backend.overlayfs",
    {
        "SNX-009": (
            "a view without parent is writable",
            answered(each_option(lambda option: option.replace("ro", "rw"), type="bind"), "view"),
        ),
        "SNX-010": (
            "an option that nobody asked for",
            answered(with_options(lambda options: [*options, "metacopy=on"]), "prepare"),
        ),
        "SNX-014": (
            "binds have an index too",
            answered(with_options(lambda options: ["index=off", *options], type="bind"), "prepare"),
        ),
    },
)


@mutant("SNX-012", "the view's own directory is bound", at="backend.overlayfs", method="view")
def _its_own(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> list[Mount]:
    mounts: list[Mount] = original(ctx, key, parent, labels)
    if mounts[0].type == "bind":
        return [replace(mounts[0], source=f"{folder(owner(original), key)}/fs")]
    return mounts


# --------------------------------------------------------------------------------------- numbers


class _Lowest:
    """A bucket whose next number is the lowest that is free."""

    def __init__(self, bucket: Any, taken: set[int]) -> None:
        self._bucket, self._taken = bucket, taken

    def next_sequence(self) -> int:
        return next(number for number in itertools.count(1) if number not in self._taken)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)


@hooked("SNX-008", "a free number is given out again")
class _Again:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        @contextmanager
        def update(original: Method) -> Iterator[Any]:
            with original() as records:
                taken = {record.id for record in records.all()}
                yield change(records, _made=lambda made, name: _Lowest(made(name), taken))

        if registration.uri == OVERLAYFS:
            change(instance._store, update=update)
        return None


@hooked("SNX-008", "only active snapshots have consecutive numbers")
class _Gaps:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        @contextmanager
        def update(original: Method) -> Iterator[Any]:
            def create(make: Method, kind: Kind, *args: Any) -> Any:
                if kind is Kind.VIEW:
                    records._made(b"snapshots").next_sequence()
                return make(kind, *args)

            with original() as records:
                yield change(records, create=create)

        if registration.uri == OVERLAYFS:
            change(instance._store, update=update)
        return None


# --------------------------------------------------------------------------------------- files

mutants(
    "backend.overlayfs",
    {
        "SNX-007": ("anybody can read the layers", spoiled(lambda fs, path: fs.chmod(path, 0o755))),
        "SNX-016": ("the upper directory is owned by root", spoiled(lambda fs, path: fs.lchown(f"{path}/fs", 0, 0))),
    },
)
mutants(
    "backend.overlayfs",
    {
        "SNX-007": ("a view has a work directory", spoiled(lambda fs, path: fs.mkdir(f"{path}/work"), "view")),
        "SNX-016": (
            "the mode is that of the layer below",
            spoiled(lambda fs, path: fs.chmod(f"{path}/fs", 0o700)),
        ),
    },
)
mutants(
    "backend.overlayfs",
    {
        "SNX-007": (
            "what was in the making stays",
            spoiled(lambda fs, path: fs.makedirs(f"{path.rpartition('/')[0]}/new-1"), "view"),
        ),
    },
)


def at_commit(edit: Callable[[Any, str], object]) -> dict[str, Method]:
    """Commits that touch the directory: edit(the fake disk, its path)."""

    def commit(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
        original(ctx, name, key, labels)
        me = owner(original)
        edit(me._host.fs, folder(me, name))

    return {"commit": commit}


mutants(
    "backend.overlayfs",
    {"SNX-017": ("a commit copies the layer", at_commit(lambda fs, path: fs.mkdir(f"{path}-committed")))},
)
mutants(
    "backend.overlayfs",
    {"SNX-017": ("the work directory goes with the commit", at_commit(lambda fs, path: fs.rmtree(f"{path}/work")))},
)


def _at_once(original: Method, ctx: CallContext, key: str) -> None:
    me = owner(original)
    upper = me.mounts(ctx, key)[0].source
    original(ctx, key)
    me._backend._host.fs.rmtree(upper.removesuffix("/fs"))


mutants("metadata.snapshots", {"SNX-019": ("the client's call deletes the files", {"remove": _at_once})})
mutants("metadata.snapshots", {"SNX-020": ("the client's call deletes the files", {"remove": _at_once})})


def _client_key(name: str) -> str:
    return name.split("/", 2)[-1]


def _remembered(original: Method, ctx: CallContext, key: str) -> None:
    original(ctx, key)
    memory(original)[_client_key(key)] = True


def _by_key(original: Method, ctx: CallContext) -> None:
    original(ctx)
    me = owner(original)
    for info in list(me.walk(ctx)):
        if _client_key(info.name) in memory(original):
            me._host.fs.rmtree(f"{folder(me, info.name)}/fs")
            me._host.fs.mkdir(f"{folder(me, info.name)}/fs")


mutants(
    "backend.overlayfs",
    {"SNX-019": ("the clean-up goes by key", {"remove": _remembered, "cleanup": _by_key})},
)


@hooked("SNX-021", "strays stay")
class _Keeping:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        def strays(original: Method, live: frozenset[int]) -> list[str]:
            return [name for name in original(live) if name.isdecimal()]

        if registration.uri == OVERLAYFS:
            change(instance._layers, strays=strays)
        return None


@hooked("SNX-021", "a start cleans up")
class _Tidy:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == OVERLAYFS:
            instance.cleanup(CallContext())
        return None


# --------------------------------------------------------------------------------------- labels and sizes


@hooked("SNX-022", "the label goes with the key")
class _Lost:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        def shown(original: Method, record: Any) -> Info:
            info: Info = record.info if record.kind is Kind.COMMITTED else original(record)
            return info

        if registration.uri == OVERLAYFS:
            change(instance._layers, shown=shown)
        return None


@hooked("SNX-022", "the label is there unasked")
class _Unasked:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == OVERLAYFS:
            instance._layers._upperdir_label = True
        return None


def _with_lower(original: Method, ctx: CallContext, key: str) -> Usage:
    me = owner(original)
    usage: Usage = original(ctx, key)
    parent = me.stat(ctx, key).parent
    if not parent:
        return usage
    below: Usage = original(ctx, parent)
    return Usage(usage.size + below.size, usage.inodes + below.inodes)


def _links_twice(original: Method, ctx: CallContext, key: str) -> Usage:
    me = owner(original)
    if me.stat(ctx, key).kind is not Kind.ACTIVE:
        committed: Usage = original(ctx, key)
        return committed
    found = [stat for _, stat in me._host.fs.walk(f"{folder(me, key)}/fs")]
    return Usage(sum(stat.blocks * 512 for stat in found), len(found))


mutants("backend.overlayfs", {"SNX-024": ("layers below count", {"usage": _with_lower})})
mutants("backend.overlayfs", {"SNX-024": ("a file counts once for each of its names", {"usage": _links_twice})})


@mutant("SNX-027", "mapped ids are for the upper directory only", at="backend.overlayfs", method="prepare")
def _owner_only(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> list[Mount]:
    mounts: list[Mount] = original(ctx, key, parent, labels)
    me = owner(original)
    if parent and "containerd.io/snapshot/uidmapping" in (labels or {}):
        me._host.fs.lchown(f"{folder(me, key)}/fs", 666, 777)
    return mounts


__all__ = ["snapshotters_plugins"]
