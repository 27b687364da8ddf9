"""Everything that a daemon shows of its state, so that two daemons on one root can be held against each other.

Twice over: as ``ctr`` prints it, and as the records themselves, which have the times and labels that ``ctr`` rounds or
leaves out. What changes while nobody writes (an age, a root label's own moment) is not in it; order is no matter.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.snapshots import Kind
from tests.acceptance.daemons import COMMAND_SECONDS, Daemon

SNAPSHOTTERS = ("overlayfs", "native")

_LABELS = re.compile(r"\S+=\S*,\S+")
_AGE = re.compile(r"\s(About|Less than|\d+) ?[a-z ]*(second|minute|hour|day)s?( ago)?")

Inventory = Mapping[str, list[str]]


def take(daemon: Daemon) -> Inventory:
    """All lists, each sorted, under the words that were asked for them."""
    found: dict[str, list[str]] = {}
    with Client(str(daemon.socket), timeout=COMMAND_SECONDS) as client:
        names = sorted(namespace.name for namespace in client.namespaces.list(CallContext()))
        found["namespaces"] = sorted(map(_text, client.namespaces.list(CallContext())))
        for name in names:
            for what, records in _records(client, CallContext(namespace=name)):
                found[f"{name}: {what}"] = sorted(records)
    for command in (["namespaces", "ls"], *_commands(names)):
        done = daemon.ctr(*command)
        assert done.code == 0, (command, done.stderr)
        found["ctr " + " ".join(command)] = sorted(map(_line, done.stdout.decode().splitlines()))
    return found


def differences(before: Inventory, after: Inventory) -> list[str]:
    """What is in one and not in the other, a line each; none if they are equal."""
    lines = []
    for what in sorted({*before, *after}):
        old, new = before.get(what, []), after.get(what, [])
        lines += [f"{what}: lost {line}" for line in old if line not in new]
        lines += [f"{what}: new {line}" for line in new if line not in old]
        if not lines and len(old) != len(new):
            lines.append(f"{what}: {len(old)} lines became {len(new)}")
    return lines


def _text(record: Any) -> str:
    """One line; maps in the order of their keys."""
    return json.dumps(asdict(record), sort_keys=True, default=str)


def _line(line: str) -> str:
    """A line of ``ctr``: Go's maps have a new order each time."""
    line = " ".join(_AGE.sub(" AGE", line).split())  # columns are as wide as the ages in them
    return _LABELS.sub(lambda found: ",".join(sorted(found.group().split(","))), line)


def _digest(client: Client, ctx: CallContext, digest: str) -> str:
    reader = client.content.reader(ctx, digest)
    try:
        return "sha256:" + hashlib.sha256(reader.read_at(0, reader.size)).hexdigest()
    finally:
        reader.close()


def _records(client: Client, ctx: CallContext) -> Iterator[tuple[str, list[str]]]:
    yield "images", [_text(image) for image in client.images.list(ctx)]
    yield "containers", [_text(container) for container in client.containers.list(ctx)]
    # One by one: a list of the real daemon's has no updated_at.
    blobs = [client.content.info(ctx, info.digest) for info in client.content.walk(ctx)]
    yield "content", [_text(info) for info in blobs]
    yield "bytes of content", [f"{info.digest} holds {_digest(client, ctx, info.digest)}" for info in blobs]
    yield "ingests", [_text(status) for status in client.content.list_statuses(ctx)]
    leases = client.leases.list(ctx)
    yield (
        "leases",
        [f"{_text(lease)} {sorted(map(_text, client.leases.list_resources(ctx, lease.id)))}" for lease in leases],
    )
    for id in SNAPSHOTTERS:
        snapshotter = client.snapshotter(id)
        snapshots = list(snapshotter.walk(ctx))
        yield f"{id} snapshots", [_text(info) for info in snapshots]
        # What is on the disk belongs to it: the directories and how much is in them.
        yield f"{id} usage", [f"{info.name} {snapshotter.usage(ctx, info.name)}" for info in snapshots]
        active = [info.name for info in snapshots if info.kind is not Kind.COMMITTED]
        yield f"{id} mounts", [f"{key} {snapshotter.mounts(ctx, key)}" for key in active]


def _commands(namespaces: list[str]) -> Iterator[list[str]]:
    for name in namespaces:
        for command in (
            ["images", "ls"],
            ["images", "check"],
            ["content", "ls"],
            ["content", "active"],
            ["containers", "ls"],
            ["leases", "ls"],
            *(["snapshots", "--snapshotter", id, "ls"] for id in SNAPSHOTTERS),
        ):
            yield ["-n", name, *command]
