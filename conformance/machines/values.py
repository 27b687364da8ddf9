"""What two answers are compared by: the values that every implementation has to agree on, and nothing else.

Times, ids that the subject draws and paths on its disk are left out; what remains are plain, printable values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refimpl.contract import content, snapshots
from refimpl.contract.containers import Container
from refimpl.contract.images import Image
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.mounts import FileStat, FileType, Mount, RootFS

_PATHS = ("lowerdir=", "upperdir=", "workdir=")
_HOST = {"index=off", "userxattr", "volatile"}
"""Overlay options that say what the kernel can do, not what the snapshot is."""


def comparable(value: Any) -> Any:
    """The comparable part of an answer.

    Raises:
        TypeError: a kind of value that nobody said how to compare.
    """
    if value is None or isinstance(value, str | int | bytes):
        return value
    if isinstance(value, list | Iterator):
        return [comparable(each) for each in value]
    for kind, form in _FORMS.items():
        if isinstance(value, kind):
            return form(value)
    if hasattr(value, "commit"):
        # An open ingest, whatever its class: where it stands is what its user sees first.
        # Its total is the ingest's in one process and the stream's on a wire (CNT-041).
        return {"digest": value.digest(), "offset": value.status().offset}
    raise TypeError(f"no comparison for {type(value).__name__}")


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))


def _blob(info: content.Info) -> dict[str, Any]:
    return {"digest": info.digest, "size": info.size, "labels": _labels(info.labels)}


def _status(status: content.Status) -> dict[str, Any]:
    return {"ref": status.ref, "offset": status.offset, "total": status.total}


def _snapshot(info: snapshots.Info) -> dict[str, Any]:
    return {"name": info.name, "parent": info.parent, "kind": info.kind.text, "labels": _labels(info.labels)}


def _usage(usage: snapshots.Usage) -> dict[str, Any]:
    # How many bytes a file or a directory takes is the host file system's affair.
    return {"inodes": usage.inodes, "negative": usage.size < 0}


def _mount(mount: Mount) -> dict[str, Any]:
    plain = sorted(option for option in mount.options if not option.startswith(_PATHS) and option not in _HOST)
    below = next((o.count(":") + 1 for o in mount.options if o.startswith("lowerdir=")), 0)
    over = [prefix.rstrip("=") for prefix in _PATHS[1:] if any(o.startswith(prefix) for o in mount.options)]
    return {"type": mount.type, "options": plain, "layers below": below, "writes to": over}


def _image(image: Image) -> dict[str, Any]:
    return {"name": image.name, "target": image.target.digest, "labels": _labels(image.labels)}


def _container(container: Container) -> dict[str, Any]:
    root = f"{container.snapshotter}/{container.snapshot_key}"
    return {"id": container.id, "root": root, "labels": _labels(container.labels)}


def _lease(lease: Lease) -> dict[str, Any]:
    return {"id": lease.id, "labels": _labels(lease.labels)}


def _resource(resource: Resource) -> str:
    return f"{resource.type} {resource.id}"


_FORMS: dict[type, Any] = {
    content.Info: _blob,
    content.Status: _status,
    snapshots.Info: _snapshot,
    snapshots.Usage: _usage,
    Mount: _mount,
    Image: _image,
    Container: _container,
    Lease: _lease,
    Resource: _resource,
}


def tree(fs: RootFS) -> list[str]:
    """A file system as text, a line per entry, to be compared with another one.

    Left out: times, sizes of directories, and the mode of the root, which a snapshotter need not hand down (SNP-053).
    """
    return [_entry(fs, path, found) for path, found in fs.walk("/") if path != "/"]


def _entry(fs: RootFS, path: str, found: FileStat) -> str:
    line = f"{path} {found.type.value} {found.mode:o} {found.uid}:{found.gid}"
    if found.type is FileType.FILE:
        return f"{line} {fs.read(path)!r}"
    if found.type is FileType.SYMLINK:
        return f"{line} -> {fs.readlink(path)}"
    return line
