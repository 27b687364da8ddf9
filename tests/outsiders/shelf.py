"""A content store in eighty lines: blobs and ingests in two dictionaries. Nothing outlives the process.

refimpl serve-plugin tests.outsiders.shelf:content --address /tmp/shelf.sock
refimpl conform content+unix:///tmp/shelf.sock
"""

import hashlib
import threading
import time
from dataclasses import replace

from refimpl.contract import digest as digests
from refimpl.contract.content import Info, Status
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from refimpl.contract.filters import parse


class Shelf:
    def __init__(self):
        self.lock, self.blobs, self.ingests, self.open = threading.RLock(), {}, {}, set()

    def info(self, ctx, digest):
        digests.validate(digest)
        if digest not in self.blobs:
            raise NotFound(f"content {digest}")
        return self.blobs[digest][0]

    def update(self, ctx, info, fieldpaths=()):
        raise FailedPrecondition("this store keeps no labels")

    def walk(self, ctx, filters=()):
        wanted = parse(filters)
        with self.lock:
            infos = [info for _, (info, _data) in sorted(self.blobs.items())]
        return iter([i for i in infos if wanted(lambda path, i=i: i.digest if path[0] == "digest" else None)])

    def delete(self, ctx, digest):
        with self.lock:
            self.info(ctx, digest)
            del self.blobs[digest]

    def reader(self, ctx, digest):
        self.info(ctx, digest)
        return ShelfReader(self.blobs[digest][1])

    def status(self, ctx, ref):
        if ref not in self.ingests:
            raise NotFound(f"ingest {ref}")
        status, data = self.ingests[ref]
        return replace(status, offset=len(data))

    def list_statuses(self, ctx, filters=()):
        wanted = parse(filters)
        with self.lock:
            refs = [ref for ref in sorted(self.ingests) if wanted(lambda path, r=ref: r if path[0] == "ref" else None)]
            return [self.status(ctx, ref) for ref in refs]

    def writer(self, ctx, ref, *, total=0, expected=""):
        with self.lock:
            if not ref:
                raise InvalidArgument("ref must not be empty")
            if expected and expected in self.blobs:
                raise AlreadyExists(f"content {expected}")
            if ref in self.open:
                raise Unavailable(f"ref {ref} locked")
            if expected:
                digests.validate(expected)
            old = self.ingests.get(ref)
            if old is None or (total and total != old[0].total):
                now = time.time_ns()
                self.ingests[ref] = (Status(ref, 0, total, expected, now, now), bytearray())
            self.open.add(ref)
            return ShelfWriter(self, ref)

    def abort(self, ctx, ref):
        with self.lock:
            self.status(ctx, ref)
            del self.ingests[ref]


class ShelfReader:
    def __init__(self, data):
        self.data, self.size = data, len(data)

    def read_at(self, offset, size):
        return self.data[offset : offset + size]

    def close(self):
        pass


class ShelfWriter:
    def __init__(self, shelf, ref):
        self.shelf, self.ref, self.data, self.closed = shelf, ref, shelf.ingests[ref][1], False

    def write(self, data):
        self.data += data
        if self.ref in self.shelf.ingests:
            status, kept = self.shelf.ingests[self.ref]
            self.shelf.ingests[self.ref] = (replace(status, updated_at=time.time_ns()), kept)
        return len(data)

    def digest(self):
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def status(self):
        return self.shelf.status(None, self.ref)

    def truncate(self, size):
        if size:
            raise Unimplemented("truncating to anything but 0")
        self.data.clear()

    def commit(self, ctx, size=0, expected="", labels=None):
        with self.shelf.lock:
            if self.closed:
                raise FailedPrecondition("the writer is closed")
            self.close()
            self.shelf.status(ctx, self.ref)
            if size and size != len(self.data):
                raise FailedPrecondition(f"unexpected commit size {len(self.data)}, expected {size}")
            if expected and expected != self.digest():
                raise FailedPrecondition(f"unexpected commit digest {self.digest()}, expected {expected}")
            del self.shelf.ingests[self.ref]
            if self.digest() in self.shelf.blobs:
                raise AlreadyExists(f"content {self.digest()}")
            now = time.time_ns()
            self.shelf.blobs[self.digest()] = (Info(self.digest(), len(self.data), now, now), bytes(self.data))

    def close(self):
        if not self.closed:
            self.closed = True
            self.shelf.open.discard(self.ref)


def content():
    return Shelf()
