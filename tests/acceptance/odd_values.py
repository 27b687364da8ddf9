"""What is put into the fields of requests to see whether two daemons answer alike: good values, odd ones, bad ones.

A field's kind is found by its name, most special first: ``Images.Create.image.name``, ``Images.name``, ``name``. The
first value of a kind is the one that a sane client would send; the others are there to be refused, or to be taken in
one certain way. What the good values name is made by ``tests.acceptance.odd_worlds``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import types_pb2
from tests.acceptance.odd_texts import (
    DIGESTS,
    FILTERS,
    IDENTIFIERS,
    KEYS,
    MASKS,
    MEDIA_TYPES,
    NAMES,
    PATHS,
    REFS,
    RESOURCES,
    THERE,
    TOPICS,
    digest,
)

Values = Sequence[Any]

ABSENT = None
"""Instead of a value: the field is not set at all."""

FRESH = object()
"""Instead of a name: one that nobody has used yet."""

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


_INT64 = 1 << 63
_LABELS: Values = (
    {},
    {"a": "b"},
    {"a": ""},
    {"": "b"},
    {"": ""},
    {"é": "☃"},
    {"a\0": "\0b"},
    {"k": "v" * 4095},
    {"k": "v" * 4096},
    {"k" * 4096: ""},
    {"k" * 5000: "v"},
    {"k" * 33000: ""},
    {"a": "1", "b": "2", "c": ""},
    {"containerd.io/gc.root": ""},
    {"containerd.io/gc.expire": "never"},
    {"containerd.io/gc.ref.content": "not a digest"},
    {"containerd.io/gc.flat": "x"},
    {"containerd.io/snapshot.ref": "base"},
    {"containerd.io/snapshot.ref": "absent"},
    {"containerd.io/snapshot/mine": "yes"},
)
_SIZES = (0, 1, 3, 5, 6, -1, 1 << 31, 1 << 40, _INT64 - 1, -_INT64)
_COUNTS = (0, 1, 2, 1 << 31, (1 << 32) - 1)
_TYPED = (
    AnyMessage(type_url=SPEC, value=b"{}"),
    ABSENT,
    AnyMessage(),
    AnyMessage(type_url=SPEC, value=b"not json"),
    AnyMessage(type_url=SPEC),
    AnyMessage(type_url="example.com/Foreign", value=b"\x00\xff"),
    AnyMessage(type_url="type.googleapis.com/google.protobuf.Timestamp", value=b"\xff\xff"),
    AnyMessage(type_url="containerd.services.images.v1.ImageCreate", value=b"\n\x01a"),
    AnyMessage(type_url="type.googleapis.com/containerd.events.ImageCreate", value=b"\n\x01a"),
    AnyMessage(value=b"untyped"),
    AnyMessage(type_url="é/\0", value=b"x" * 100_000),
)
PROCESS = AnyMessage(type_url=SPEC.replace("Spec", "Process"), value=b'{"args": ["true"], "cwd": "/"}')
LIMITS = AnyMessage(type_url=SPEC.replace("Spec", "LinuxResources"), value=b'{"memory": {"limit": 104857600}}')
RUNC_OPTIONS = AnyMessage(type_url="containerd.runc.v1.Options", value=b"\x08\x01")
_TYPED_MAPS: Values = ({}, {"a": _TYPED[0]}, {"": _TYPED[0]}, {"a": AnyMessage()}, {"a.b": _TYPED[5], "é": _TYPED[9]})
_TIMES = (
    ABSENT,
    Timestamp(),
    Timestamp(seconds=1_600_000_000, nanos=5),
    Timestamp(nanos=-1),
    Timestamp(nanos=10**9),
    Timestamp(seconds=-62135596800),
    Timestamp(seconds=-62135596801),
    Timestamp(seconds=253402300799, nanos=999_999_999),
    Timestamp(seconds=253402300800),
    Timestamp(seconds=_INT64 - 1, nanos=(1 << 31) - 1),
)
_MOUNTS = (
    (),
    (types_pb2.Mount(type="bind", source="{base}/tree", options=["rbind"]),),
    (types_pb2.Mount(type="bind", source="{base}/tree", options=["rbind", "ro"]),),
    (types_pb2.Mount(),),
    (types_pb2.Mount(type="bind", source="/nonexistent/x", options=["rbind"]),),
    (types_pb2.Mount(type="bind", source="{base}/tree/file", options=["bind"]),),
    (types_pb2.Mount(type="nosuchfs", source="{base}/tree"),),
    (types_pb2.Mount(type="overlay", source="overlay"),),
    (types_pb2.Mount(type="overlay", source="overlay", options=["lowerdir=/nonexistent/x"]),),
    (types_pb2.Mount(type="overlay", source="overlay", options=["nonsense=1"]),),
    (types_pb2.Mount(type="tmpfs", source="x", options=["size=1m", "size=nonsense"]),),
    (types_pb2.Mount(type="tmpfs", source="none"),),
    (types_pb2.Mount(type="bind", source="é\0", options=["rbind"]),),
    (types_pb2.Mount(type="bind", source="{base}/tree", options=["nosuchoption"]),),
    (
        types_pb2.Mount(type="bind", source="{base}/tree", options=["rbind"]),
        types_pb2.Mount(type="nosuchfs", source="{base}/tree"),
    ),
)
ROOT = (types_pb2.Mount(type="bind", source="{base}/box", options=["bind", "ro"]),)
"""A root file system with a few programs."""


_BY_NAME: Mapping[str, Values] = {
    # names
    "envelope.timestamp": (_TIMES[2], ABSENT, *_TIMES[1:2], *_TIMES[3:]),
    "Containers.snapshotter": ("", "overlayfs", "nosuch", "é\0", "o" * 5000),
    "Namespaces.name": ("{ns}", *IDENTIFIERS[1:]),
    "Namespaces.Create.namespace.name": (FRESH, *IDENTIFIERS[1:], "{ns}"),
    "Namespaces.Delete.name": ("{ns}-victim", *IDENTIFIERS[1:], "{ns}"),
    "Containers.id": IDENTIFIERS,
    "Containers.Create.container.id": (FRESH, *IDENTIFIERS),
    "Containers.Delete.id": ("victim", *IDENTIFIERS[1:]),
    "Leases.id": ("lease", *IDENTIFIERS[1:]),
    "Leases.Create.id": (FRESH, "lease", *IDENTIFIERS[1:]),
    "Leases.Delete.id": ("victim", *IDENTIFIERS[1:]),
    "resource.id": (THERE, "base", "ingest", "img", *DIGESTS[1:6], "a\0b", "é", "a/b", "r" * 40000),
    "resource.type": RESOURCES,
    "Images.name": NAMES,
    "Images.Create.image.name": (FRESH, *NAMES),
    "Images.Delete.name": ("victim", *NAMES[1:]),
    "key": KEYS,
    "Snapshots.Prepare.key": (FRESH, *KEYS),
    "Snapshots.View.key": (FRESH, *KEYS),
    "Snapshots.Commit.key": ("victim", *KEYS),
    "Snapshots.Remove.key": ("victim", *KEYS),
    "Snapshots.Commit.name": (FRESH, *KEYS),
    "Snapshots.Update.info.name": ("base", *KEYS),
    "parent": ("base", "", "active", "view", "absent", "a/b", "a\0b", "é", "k" * 40000),
    "snapshotter": ("overlayfs", "native", "", "nosuch", "Overlayfs", "overlayfs\n", "a\0b", "é", "%s", "o" * 5000),
    "snapshot_key": ("", "active", "absent", "k" * 5000),
    "image": ("img", "", "é", "i" * 5000),
    "sandbox": ("", "x"),
    "runtime.name": ("io.containerd.runc.v2", "", "nosuch", "io.containerd.nosuch.v9", "é\0", "r" * 5000),
    "filter": ("", "id==ctr", "[["),
    # content
    "digest": DIGESTS,
    "Diff.Apply.mounts": (_MOUNTS[1], _MOUNTS[0], *_MOUNTS[2:]),
    "Diff.Diff.media_type": ("application/vnd.oci.image.layer.v1.tar", *MEDIA_TYPES[3:5], *MEDIA_TYPES[6:]),
    "Content.Delete.digest": (digest(b"victim"), *DIGESTS[1:]),
    "parent_checkpoint": ("", *DIGESTS),
    "expected": ("", *DIGESTS),
    "ref": REFS,
    "Content.Abort.ref": ("victim", *REFS[1:]),
    "Diff.Diff.ref": (FRESH, *REFS),
    "media_type": MEDIA_TYPES,
    "size": (5, *_SIZES),
    "Content.Read.offset": _SIZES,
    "Content.Read.size": _SIZES,
    # events
    "topic": TOPICS,
    "envelope.namespace": ("{ns}", *IDENTIFIERS[1:]),
    # tasks
    "Tasks.Create.container_id": ("victim", "running", "made", "stopped", "ctr", "absent", "", "a/b", "..", "é\0"),
    "Tasks.Create.rootfs": (ROOT, *_MOUNTS),
    "options": (ABSENT, _TYPED[0], *_TYPED[2:], RUNC_OPTIONS),
    "Tasks.Exec.spec": (PROCESS, *_TYPED),
    "Tasks.Update.resources": (LIMITS, *_TYPED),
    "container_id": ("running", "made", "stopped", "ctr", "absent", "", "a/b", "..", "é\0", "a" * 5000),
    "Tasks.Exec.exec_id": ("new", "exec", "", "a/b", "..", "é", "a b", "a" * 77),
    "exec_id": ("", "exec", "absent", "a/b", "..", "é", "a b", "a" * 5000),
    "signal": (0, 9, 1, 34, 64, 65, 128, 1 << 31, (1 << 32) - 1),
    "Tasks.CloseIO.stdin": (True, False),
    # The shim waits for somebody to open it, whatever it is; both daemons are given up then.
    "Tasks.Create.stdin": ("",),
    "stdin": PATHS,
    "stdout": PATHS,
    "stderr": PATHS,
    "runtime_path": ("", "/nonexistent/x", "relative", "io.containerd.nosuch.v9"),
    "task_api_address": ("", "x"),
}

_BY_TYPE: Mapping[str, Values] = {
    "google.protobuf.FieldMask": MASKS,
    "google.protobuf.Any": _TYPED,
    # Times that are out of range are refused by 1.6 wherever they stand, while it reads the message; it and we look at
    # an envelope's only.
    "google.protobuf.Timestamp": (ABSENT, *(each for each in _TIMES[1:] if each.seconds == 1_600_000_000)),
}


def values(service: str, method: str, path: str, field: FieldDescriptor) -> Values:
    """The values for a field, the good one first.

    Args:
        service: such as ``Images``.
        method: such as ``Create``.
        path: the field's path in the request, with dots.
        field: its descriptor, for those without a kind of their own.
    """
    steps = path.split(".")
    for start in range(len(steps)):
        end = ".".join(steps[start:])
        for name in (f"{service}.{method}.{end}", f"{service}.{end}", end):
            if name in _BY_NAME:
                return _BY_NAME[name]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return _TYPED_MAPS if kind.fields_by_name["value"].message_type is not None else _LABELS
    if kind is not None and kind.full_name in _BY_TYPE:
        return _BY_TYPE[kind.full_name]
    if kind is not None and kind.name == "Mount":
        return _MOUNTS
    if field.type == FieldDescriptor.TYPE_STRING:
        return FILTERS if field.is_repeated else ("", "x", "é\0")
    if field.type == FieldDescriptor.TYPE_BOOL:
        return (False, True)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return (0, 1, 2, 3, 99, -1)
    if field.type in {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64}:
        return _COUNTS
    if field.type == FieldDescriptor.TYPE_INT64:
        return _SIZES
    raise LookupError(f"no values for {service}.{method}.{path}")


def present(service: str, method: str, path: str) -> Values:
    """Whether a sub-message is there; one that good requests do without comes second."""
    return (False, True) if f"{service}.{method}.{path}" in _OPTIONAL else (True, False)


_OPTIONAL = {"Tasks.Create.checkpoint", "Images.Delete.target"}

NAMESPACES: Values = ("{ns}", ABSENT, "", "absent", "a b", "-", "a..b", "A", "a/b", "a" * 77, "%s", "a" * 76)
LEASES: Values = (ABSENT, "lease", "absent", "", "a b", "a/b", "%s")
