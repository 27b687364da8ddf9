"""Mutants of the mounts area: a fake host that misunderstands lists of mounts, and a differ that uses them wrongly."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conformance.mutants._snapshots import Method, memory, owner
from conformance.mutants.engine import mutant, mutants
from conformance.mutants.shapes import argument, drops
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.mount_options import PAGE_SIZE, parse_options
from refimpl.contract.mounts import Mount

Edit = Callable[[Mount], Mount]
_MANY = 100
"""Lower directories that a host might think enough."""


def performing(edit: Edit) -> dict[str, Method]:
    """A host that performs other mounts than those that it is asked for."""
    return {"mount": argument(1, edit)}


def refusing(why: Callable[[Mount], Exception | None]) -> dict[str, Method]:
    """A host that refuses some mounts."""

    def mount(original: Method, target: str, mount: Mount) -> None:
        refusal = why(mount)
        if refusal is not None:
            raise refusal
        original(target, mount)

    return {"mount": mount}


def _lowers(mount: Mount) -> list[str]:
    found = parse_options(mount.options).value("lowerdir")
    return found.split(":") if found else []


def _length(mount: Mount) -> int:
    return sum(map(len, mount.options))


def _first_of_two_wins(mount: Mount) -> Mount:
    return replace(mount, options=tuple(reversed(mount.options)))


def _flags_are_data(mount: Mount) -> Exception | None:
    known = mount.type == "bind" or {"bind", "rbind"} & set(mount.options)
    return None if known or "async" not in mount.options else OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _type_is_enough(mount: Mount) -> Mount:
    return replace(mount, options=("bind", *mount.options)) if mount.type == "bind" else mount


def _always_recursive(mount: Mount) -> Mount:
    return replace(mount, options=tuple("rbind" if option == "bind" else option for option in mount.options))


def _writable(mount: Mount) -> Mount:
    if not parse_options(mount.options).bind:
        return mount
    return replace(mount, options=tuple(option for option in mount.options if option != "ro"))


def _cut(mount: Mount) -> Mount:
    options = parse_options(mount.options)
    data = ",".join(options.data)
    return replace(mount, options=(*options.flags, *([data[:PAGE_SIZE]] if data else [])))


def _cut_inside_a_name(mount: Mount) -> Mount:
    """Take the longest common beginning for a directory."""
    lowers = _lowers(mount)
    if len(lowers) < 2 or _length(mount) < PAGE_SIZE - 512:
        return mount
    low, high = min(lowers), max(lowers)
    common = low[: next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))]
    others = [option for option in mount.options if not option.startswith("lowerdir=")]
    names = (common.rpartition("/")[0] + "/" + lower.removeprefix(common) for lower in lowers)
    return replace(mount, options=(*others, "lowerdir=" + ":".join(names)))


def _repaired(mount: Mount) -> Mount:
    lowers = _lowers(mount)
    if mount.type == "overlay" and len(lowers) == 1 and parse_options(mount.options).value("upperdir") is None:
        return Mount("bind", lowers[0], options=("rbind", "ro"))
    return mount


def _no_flags(mount: Mount) -> Exception | None:
    options = parse_options(mount.options)
    if options.bind and options.flags & {"nosuid", "nodev", "noexec", "noatime"} and not options.read_only:
        return OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return None


def _nothing_unknown(mount: Mount) -> Exception | None:
    options = parse_options(mount.options)
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL)) if options.bind and options.data else None


def _no_long_lists(mount: Mount) -> Exception | None:
    return Unknown("mount options is too long") if _lowers(mount) and _length(mount) > PAGE_SIZE else None


def _few_layers(mount: Mount) -> Exception | None:
    return Unknown("too many layers") if len(_lowers(mount)) > _MANY else None


def _program_for_every_dot(mount: Mount) -> Exception | None:
    kind = mount.type.partition(".")[0]
    return Unknown(f"mount helper [mount.{kind}] failed") if "." in mount.type else None


mutants(
    "mounts",
    {
        "MNT-005": ("the first of two wins", performing(_first_of_two_wins)),
        "MNT-006": ("the type bind implies the flag", performing(_type_is_enough)),
        "MNT-008": ("the bind is left writable", performing(_writable)),
        "MNT-010": ("a bind with other flags fails", refusing(_no_flags)),
        "MNT-011": ("propagation words are refused on a bind", refusing(_nothing_unknown)),
        "MNT-012": ("the data is cut at the end of the page", performing(_cut)),
        "MNT-013": ("long lists are refused", refusing(_no_long_lists)),
        "MNT-014": ("12 is cut to 2", performing(_cut_inside_a_name)),
        "MNT-015": ("more than a hundred layers are refused", refusing(_few_layers)),
        "MNT-016": ("the list is repaired into a bind", performing(_repaired)),
        "MNT-019": ("any type with a dot runs a program", refusing(_program_for_every_dot)),
    },
)
mutants("mounts", {"MNT-005": ("flags reach the file system", refusing(_flags_are_data))})
mutants("mounts", {"MNT-006": ("every bind is recursive", performing(_always_recursive))})
mutants("mounter", {"MNT-002": ("only the last mount is done", {"mounted": argument(1, lambda mounts: mounts[-1:])})})
mutants("mounter", {"MNT-027": ("the active overlay is mounted a second time", {"mounted": drops("read_only")})})


@mutant("MNT-001", "the snapshotter performs the mount itself", at="backend.overlayfs", method="prepare")
def _performs(original: Method, ctx: CallContext, key: str, *args: Any, **kwargs: Any) -> Any:
    mounts = original(ctx, key, *args, **kwargs)
    owner(original)._host.mounts.mount(mounts[-1].source, mounts[-1])
    return mounts


@mutant("MNT-002", "only the first mount is done", at="mounts", method="mount")
def _only_the_first(original: Method, target: str, mount: Mount) -> None:
    if not any(entry.target == target for entry in owner(original).entries()):
        original(target, mount)


def _failing(original: Method, target: str, mount: Mount) -> None:
    memory(original).pop(target, None)
    try:
        original(target, mount)
    except OSError:
        memory(original)[target] = "failed"
        raise


def _forgets_the_failed(original: Method, target: str) -> None:
    if target not in memory(original):
        original(target)


mutants(
    "mounts", {"MNT-003": ("the first mount stays behind", {"mount": _failing, "unmount_all": _forgets_the_failed})}
)


@mutant("MNT-004", "an empty list is refused", at="differ", method="compare")
def _refuses_nothing(original: Method, ctx: CallContext, lower: Any, upper: Any, **kwargs: Any) -> Any:
    if not lower or not upper:
        raise InvalidArgument("no mounts to compare")
    return original(ctx, lower, upper, **kwargs)


@mutant("MNT-007", "the missing source directory is created", at="mounts", method="mount")
def _creates(original: Method, target: str, mount: Mount) -> None:
    view = owner(original).view
    for path in [mount.source] if parse_options(mount.options).bind else _lowers(mount):
        if not view.exists(path):
            view.makedirs(path)
    original(target, mount)


@mutant("MNT-009", "the operation fails because of the submount", at="mounts", method="mount")
def _no_submounts(original: Method, target: str, mount: Mount) -> None:
    options = parse_options(mount.options)
    below = [entry.target for entry in owner(original).entries() if entry.target.startswith(mount.source + "/")]
    if "rbind" in options.flags and options.read_only and below:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    original(target, mount)


@mutant("MNT-020", "one mount of a stack is left", at="mounts", method="unmount_all")
def _leaves_one(original: Method, target: str) -> None:
    table = owner(original)
    mounted = sum(entry.target == target for entry in table.entries())
    if mounted <= 1:
        original(target)
    for _ in range(mounted - 1):
        table.unmount(target)


@mutant("MNT-028", "deletion markers are unpacked as files", at="differ", method="apply")
def _markers_are_files(original: Method, ctx: CallContext, descriptor: Any, mounts: Any, *args: Any) -> Any:
    upper = parse_options(mounts[0].options).value("upperdir") if len(mounts) == 1 else None
    if upper is not None:
        mounts = [Mount("aufs", "none", options=(f"br:{upper}=rw",))]
    return original(ctx, descriptor, mounts, *args)
