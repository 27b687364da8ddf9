"""A snapshotter in sixty lines: a snapshot is a full copy of its parent in a directory. Nothing outlives the process.

refimpl serve-plugin tests.outsiders.copying:snapshotter --address /tmp/copying.sock
refimpl conform snapshotter+unix:///tmp/copying.sock
"""

import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.filters import parse
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage


class CopyingSnapshotter:
    def __init__(self, root):
        self.root, self.lock, self.count = Path(root), threading.RLock(), 0
        self.infos, self.directories, self.usages = {}, {}, {}

    def stat(self, ctx, key):
        if key not in self.infos:
            raise NotFound(f"snapshot {key}")
        return self.infos[key]

    def update(self, ctx, info, fieldpaths=()):
        with self.lock:
            old = self.stat(ctx, info.name)
            labels = dict(info.labels) if not fieldpaths or "labels" in fieldpaths else dict(old.labels)
            for path in fieldpaths:
                if path.startswith("labels."):
                    key = path.removeprefix("labels.")
                    labels[key] = info.labels.get(key, "")
                elif path != "labels":
                    raise InvalidArgument(f"cannot update {path} field on snapshot {info.name}")
            labels = {key: value for key, value in labels.items() if value}
            self.infos[info.name] = replace(old, labels=labels, updated_at=time.time_ns())
            return self.infos[info.name]

    def usage(self, ctx, key):
        self.stat(ctx, key)
        return self.usages.get(key) or self._measure(key)

    def mounts(self, ctx, key):
        kind = self.stat(ctx, key).kind
        if kind is Kind.COMMITTED:
            raise FailedPrecondition(f"snapshot {key} is committed")
        return [Mount("bind", str(self.directories[key]), options=("rbind", "ro" if kind is Kind.VIEW else "rw"))]

    def prepare(self, ctx, key, parent="", labels=None):
        return self._create(ctx, Kind.ACTIVE, key, parent, labels)

    def view(self, ctx, key, parent="", labels=None):
        return self._create(ctx, Kind.VIEW, key, parent, labels)

    def _create(self, ctx, kind, key, parent, labels):
        with self.lock:
            if not key:
                raise InvalidArgument("a snapshot needs a key")
            if key in self.infos:
                raise AlreadyExists(f"snapshot {key}")
            if parent and self.stat(ctx, parent).kind is not Kind.COMMITTED:
                raise InvalidArgument(f"parent {parent} is not committed")
            self.count += 1
            directory = self.root / str(self.count)
            directory.mkdir()
            directory.chmod(0o755)
            if parent:
                subprocess.run(["cp", "-a", f"{self.directories[parent]}/.", str(directory)], check=True)
            now = time.time_ns()
            self.infos[key] = Info(key, parent, kind, now, now, dict(labels or {}))
            self.directories[key] = directory
            return self.mounts(ctx, key)

    def commit(self, ctx, name, key, labels=None):
        with self.lock:
            if not name:
                raise InvalidArgument("a snapshot needs a name")
            if name in self.infos:
                raise AlreadyExists(f"snapshot {name}")
            info = self.stat(ctx, key)
            if info.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {key} is not active")
            now = time.time_ns()
            self.usages[name] = self._measure(key)
            self.infos[name] = Info(name, info.parent, Kind.COMMITTED, now, now, dict(labels or {}))
            self.directories[name] = self.directories.pop(key)
            del self.infos[key]

    def remove(self, ctx, key):
        with self.lock:
            self.stat(ctx, key)
            if any(info.parent == key for info in self.infos.values()):
                raise FailedPrecondition(f"snapshot {key} has children")
            shutil.rmtree(self.directories.pop(key))
            del self.infos[key]
            self.usages.pop(key, None)

    def walk(self, ctx, filters=()):
        wanted = parse(filters)
        with self.lock:
            return iter([info for _, info in sorted(self.infos.items()) if wanted(lambda path, i=info: field(i, path))])

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def _measure(self, key):
        paths = [self.directories[key], *self.directories[key].rglob("*")]
        stats = {(found.st_dev, found.st_ino): found for found in (path.lstat() for path in paths)}
        return Usage(sum(found.st_blocks * 512 for found in stats.values()), len(stats))


def field(info, path):
    """A field by its path in a filter; None if there is none."""
    if path[0] == "labels":
        return info.labels.get(".".join(path[1:]))
    return {"name": info.name, "parent": info.parent, "kind": info.kind.name.lower()}.get(path[0])


def snapshotter():
    return CopyingSnapshotter(tempfile.mkdtemp(prefix="copying-"))
