"""Uploads that break the rules of their stream, and calls whose oddness is in the call and not in its message."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from refimpl.api import containers_v1_pb2 as containers
from refimpl.api import content_v1_pb2 as content
from refimpl.api import events_v1_pb2 as events
from refimpl.api import images_v1_pb2 as images
from refimpl.api import introspection_v1_pb2 as introspection
from refimpl.api import leases_v1_pb2 as leases
from refimpl.api import namespaces_v1_pb2 as namespaces
from refimpl.api import snapshots_v1_pb2 as snapshots
from refimpl.api import types_pb2
from tests.acceptance.odd_requests import LEASE, NAMESPACE, Request, call
from tests.acceptance.odd_texts import ELSEWHERE, NOWHERE, THERE, digest
from tests.acceptance.odd_worlds import KEEP, container

_INT64 = 1 << 63
_PIECES = (b"", b"abc", b"hello", b"x" * 70_000)
_ACTIONS = (content.STAT, content.WRITE, content.WRITE, content.COMMIT, content.COMMIT, 99, -1)
_REFS = ("up", "up", "up", "up", "ingest", "", "other", "a/b", "é\0")
_TOTALS = (0, 0, 0, 3, 5, 6, -1, _INT64 - 1, -_INT64)
_TOTAL = {"other": 5, "a/b": -1}
_EXPECTED = (
    "",
    "",
    "",
    "right",
    "right",
    digest(b"abc"),
    THERE,
    ELSEWHERE,
    NOWHERE,
    "sha256:abc",
    "x",
    "md5:" + "0" * 32,
)
_UNSHARED = ("", "", "", "", THERE, NOWHERE, "sha256:abc", "x", "md5:" + "0" * 32)
"""What may be expected of an upload that was begun before: containerd mixes its bytes with shared ones (CNT-112)."""

_SHARED = 0.15
_OFFSETS = (None, None, None, 0, 0, 1, 3, 99, -1, _INT64 - 1, -_INT64)
_LABELS: Sequence[dict[str, str]] = (
    {},
    {},
    {"a": "b"},
    {"a": ""},
    {"": "b"},
    {"k": "v" * 4096},
    {"containerd.io/gc.root": "x"},
)


def uploads(chance: random.Random, count: int) -> Iterator[Sequence[Request]]:
    """Streams of a few messages each on a handful of refs, and after each what there is of them."""
    for number in range(count):
        lease = chance.choice((None, None, None, "lease", "absent", ""))
        first = _upload(chance, f"shared-{number}" if chance.random() < _SHARED else "")
        yield [
            call("Content/Write", *first, lease=lease),
            call("Content/ListStatuses", content.ListStatusesRequest()),
            *(call("Content/Status", content.StatusRequest(ref=ref)) for ref in {each.ref: 0 for each in first}),
            call("Content/List", content.ListContentRequest()),
        ]


def _upload(chance: random.Random, shared: str) -> list[content.WriteContentRequest]:
    """The messages of a stream; with a name for it, of one that takes over the bytes of another namespace."""
    ref, sent = shared or chance.choice(_REFS), b""
    messages = []
    for number in range(chance.choice((0, 1, 1, 2, 2, 3, 4))):
        expectable = _EXPECTED if number else (ELSEWHERE,) if shared else _UNSHARED
        data, offset, expected = chance.choice(_PIECES), chance.choice(_OFFSETS), chance.choice(expectable)
        message = content.WriteContentRequest(
            action=content.WriteAction.ValueType(chance.choice(_ACTIONS)),
            ref=ref if number == 0 or chance.random() < 0.7 else chance.choice(_REFS),
            # An ingest that is opened with another total begins anew, and containerd keeps old bytes (CNT-111).
            total=chance.choice(_TOTALS) if number else _TOTAL.get(ref, 0),
            expected=digest(sent + data) if expected == "right" else expected,
            offset=len(sent) if offset is None else offset,
            data=data,
            labels=chance.choice(_LABELS),
        )
        sent += data if message.action in {content.WRITE, content.COMMIT} else b""
        messages.append(message)
    return messages


def oddities() -> list[Request]:
    """Calls that are odd as calls: headers twice or in capitals, bytes that are no message, time that is over."""
    stat = content.WriteContentRequest(action=content.STAT, ref="late")
    named = images.GetImageRequest(name="img")
    several: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
        ("two namespaces", [(NAMESPACE, "{ns}"), (NAMESPACE, "absent")]),
        ("two namespaces", [(NAMESPACE, "absent"), (NAMESPACE, "{ns}")]),
        ("an empty one first", [(NAMESPACE, ""), (NAMESPACE, "{ns}")]),
        ("two leases", [(NAMESPACE, "{ns}"), (LEASE, "absent"), (LEASE, "lease")]),
        ("two leases", [(NAMESPACE, "{ns}"), (LEASE, "lease"), (LEASE, "absent")]),
        ("another header", [(NAMESPACE, "{ns}"), ("containerd-nonsense", "x")]),
        ("as bytes", [(f"{NAMESPACE}-bin", "{ns}")]),
        ("white space", [(NAMESPACE, " {ns} ")]),
        ("a comma", [(NAMESPACE, "{ns},absent")]),
        ("long", [(NAMESPACE, "n" * 3000)]),
    )
    headers = [Request("Images/Get", [named], each) for _, each in several]
    headers += [Request("Content/Write", [content.WriteContentRequest(ref="headers")], each) for _, each in several]
    return [
        *headers,
        *(Request(name, [data], [(NAMESPACE, "{ns}")]) for name in _READERS for data in _NO_MESSAGES),
        *(call("Events/Subscribe", events.SubscribeRequest(filters=each), timeout=0.3) for each in _BAD_FILTERS),
        call("Content/Write"),
        call("Content/Write", stat, content.WriteContentRequest(action=content.STAT), limit=1),
        call("Content/Write", content.WriteContentRequest(action=content.WRITE, ref="cut", data=b"abc"), limit=1),
        call("Content/Status", content.StatusRequest(ref="cut")),
        call("Version/Version", namespaces.ListNamespacesRequest(), ns=None),
        call("Snapshots/List", snapshots.ListSnapshotsRequest(snapshotter="native"), timeout=-1.0),
        *(call("Introspection/Plugins", introspection.PluginsRequest(filters=[each])) for each in _PLUGINS),
        *(
            call("Content/Read", content.ReadContentRequest(digest=THERE, offset=o, size=s))
            for o in _ENDS
            for s in _ENDS
        ),
    ]


def together() -> list[Request]:
    """Requests of which one can succeed, to be sent several times at once."""
    image = images.Image(name="at-once", target=types_pb2.Descriptor(media_type="x", digest=THERE, size=5))
    made = namespaces.Namespace(name="{ns}-at-once")
    kept: dict[str, Any] = {"snapshotter": "native", "labels": KEEP}
    return [
        call("Images/Create", images.CreateImageRequest(image=image)),
        call("Images/Delete", images.DeleteImageRequest(name="at-once")),
        call("Containers/Create", containers.CreateContainerRequest(container=container("at-once"))),
        call("Containers/Delete", containers.DeleteContainerRequest(id="at-once")),
        call("Leases/Create", leases.CreateRequest(id="at-once")),
        call("Leases/Delete", leases.DeleteRequest(id="at-once")),
        call("Namespaces/Create", namespaces.CreateNamespaceRequest(namespace=made)),
        call("Namespaces/Delete", namespaces.DeleteNamespaceRequest(name="{ns}-at-once")),
        call("Snapshots/Prepare", snapshots.PrepareSnapshotRequest(key="at-once", parent="base", **kept)),
        call("Snapshots/Commit", snapshots.CommitSnapshotRequest(name="done", key="at-once", **kept)),
        call("Snapshots/Remove", snapshots.RemoveSnapshotRequest(snapshotter="native", key="done")),
        call("Content/Abort", content.AbortRequest(ref="ingest")),
        call("Content/Delete", content.DeleteContentRequest(digest=THERE)),
    ]


_READERS = (
    "Images/Get",
    "Content/Info",
    "Snapshots/Stat",
    "Namespaces/Get",
    "Leases/List",
    "Containers/Get",
    "Tasks/Get",
)
NOT_UTF8 = (b"\x0a\x02\xff\xfe",)
WRONG_KIND = (b"\x08\x01", b"\x0b\x0c")
"""A number, or a group, where a text is due; the protocol takes it for a field that it does not know."""

_NO_MESSAGES = (
    *NOT_UTF8,
    *WRONG_KIND,
    b"\x0a\x05ab",  # shorter than it says
    b"\xff",
    b"\x00",
    b"\x0a",
    b"\xfa\x7f\x01x",  # a field that nobody knows
    b"\x0a\x01a\x0a\x01b",  # the same field twice
)
_BAD_FILTERS: Sequence[Sequence[str]] = (
    ["topic"],
    ["topic=="],
    ["["],
    ["topic==x", "'"],
    ["topic~=["],
    ["namespace==a b"],
)
_PLUGINS = (
    "type==io.containerd.content.v1",
    "id==content",
    "type~=content,id==content",
    "id==nothing",
    "capabilities",
    "=",
)
_ENDS: Sequence[Any] = (0, 1, 4, 5, 6, -1, _INT64 - 1, -_INT64)
