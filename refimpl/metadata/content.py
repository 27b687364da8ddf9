"""Content by namespace: who may see which blob, over one store of bytes that all share.

A blob's bytes are kept once by the back end; its record (size, labels, times) exists in each namespace that committed
it, and only there can it be read (CNT-075, MET-035, MET-045). An ingest's record maps the client's ref to the back
end's, ``<namespace>/<n>/<ref>`` (MET-036). Records and layout: ``refimpl.metadata.buckets``. Policies::

    shared    who knows a digest that the back end holds may commit it without sending a byte (CNT-076, MET-043)
    isolated  every namespace sends the bytes itself (CNT-082), unless one that holds them carries the label
              containerd.io/namespace.shareable=true (CNT-084)

Clauses ``CNT-*``, MET-035 to 037, MET-043 to 049, LEA-019 to 026.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from refimpl.contract import content, kv
from refimpl.contract.context import CallContext
from refimpl.contract.digest import validate as validate_digest
from refimpl.contract.encoding import decode_varint, encode_time
from refimpl.contract.errors import AlreadyExists, ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.filters import Adaptor, map_value
from refimpl.contract.filters import parse as parse_filters
from refimpl.contract.quoting import quoted
from refimpl.contract.times import SECOND
from refimpl.metadata import buckets, leases
from refimpl.metadata.database import Database
from refimpl.metadata.labels import updated, validated
from refimpl.metadata.locks import SharedLock
from refimpl.metadata.writer import NamespacedWriter, SharedUpload

SHARED = "shared"
ISOLATED = "isolated"
POLICIES = (SHARED, ISOLATED)

SHAREABLE = b"containerd.io/namespace.shareable"
"""Label of a namespace that gives its blobs away under the isolated policy."""

INGEST_LIFETIME = 24 * 3600 * SECOND
"""How long an ingest outlives its latest opening without a lease, in nanoseconds (CNT-049)."""

_log = logging.getLogger(__name__)


class NamespacedContentStore:
    """A ``contract.content.ContentStore`` that shows each namespace its own blobs and ingests.

    Args:
        database: where the records are.
        backend: where the bytes are.
        policy: ``shared`` or ``isolated``.
    """

    def __init__(self, database: Database, backend: content.ContentStore, policy: str = SHARED) -> None:
        if policy not in POLICIES:
            raise InvalidArgument(f"unknown policy: {policy}")
        self._database = database
        self._backend = backend
        self._policy = policy
        # Shared by whoever brings bytes or takes records away, exclusive to the clean-up: between "no record" and
        # "remove the bytes" nobody may commit a record for them.
        self._lock = SharedLock()

    def info(self, ctx: CallContext, digest: str) -> content.Info:
        """The record of a blob in the caller's namespace (CNT-051 to 053)."""
        namespace = ctx.require_namespace()
        validate_digest(digest)
        with self._database.view() as v1:
            return _read_info(digest, _blob(v1, namespace, digest))

    def update(self, ctx: CallContext, info: content.Info, fieldpaths: Sequence[str] = ()) -> content.Info:
        """Change labels in this namespace alone (CNT-054 to 059, MET-049)."""
        namespace = ctx.require_namespace()
        validate_digest(info.digest)
        with self._lock.shared(), self._database.update() as v1:
            record = _blob(v1, namespace, info.digest)
            before = _read_info(info.digest, record)
            wanted = updated(before.labels, info.labels, fieldpaths, f"content info {quoted(info.digest)}")
            now = self._database.clock.now()
            after = replace(before, labels=validated(wanted, "info"), updated_at=now)
            buckets.write_times(record, after.created_at, after.updated_at)
            try:
                buckets.write_labels(record, after.labels)
            except Unknown as err:
                raise Unknown(f"writing labels for info {info.digest}: {err}") from err
        return after

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[content.Info]:
        """The namespace's blobs in the order of their digests, as of this call (CNT-061 to 065)."""
        namespace = ctx.require_namespace()
        wanted = parse_filters(filters)
        infos = []
        with self._database.view() as v1:
            for digest, record in buckets.subbuckets(buckets.find(v1, namespace, buckets.CONTENT, buckets.BLOB)):
                info = _read_info(digest, record)
                if wanted(_adaptor(info)):
                    infos.append(info)
        return iter(infos)

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Drop the record, and its entry in the caller's lease (CNT-066, CNT-089); the bytes go later (CNT-067)."""
        namespace = ctx.require_namespace()
        validate_digest(digest)
        with self._lock.shared(), self._database.update() as v1:
            _blob(v1, namespace, digest)
            blobs = buckets.make(v1, namespace, buckets.CONTENT, buckets.BLOB)
            buckets.remove(blobs, digest)
            leases.remove_content(ctx, v1, digest)
            self._database.mark_dirty("content")

    def reader(self, ctx: CallContext, digest: str) -> content.Reader:
        """Open a blob that this namespace has a record of (MET-045)."""
        namespace = ctx.require_namespace()
        validate_digest(digest)
        with self._database.view() as v1:
            _blob(v1, namespace, digest)
        return self._backend.reader(ctx.with_lease(""), digest)

    def status(self, ctx: CallContext, ref: str) -> content.Status:
        """The state of an ingest, under the client's ref (CNT-044)."""
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            backend_ref = _backend_ref(v1, namespace, ref)
        return replace(self._backend.status(ctx.with_lease(""), backend_ref), ref=ref)

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[content.Status]:
        """The namespace's ingests (CNT-045), but for shared uploads, which the back end does not know (CNT-078)."""
        namespace = ctx.require_namespace()
        wanted = parse_filters(filters)
        with self._database.view() as v1:
            ingests = buckets.subbuckets(buckets.find(v1, namespace, buckets.CONTENT, buckets.INGESTS))
            backend_refs = {ref: buckets.text(record, buckets.REF) for ref, record in ingests}
        statuses = []
        for ref, backend_ref in backend_refs.items():
            if wanted(_status_adaptor(ref)):
                with contextlib.suppress(NotFound):
                    statuses.append(replace(self._backend.status(ctx.with_lease(""), backend_ref), ref=ref))
        return statuses

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> content.Writer:
        """Open an ingest, new or resumed, or a shared upload that has all its bytes already.

        Raises:
            AlreadyExists: this namespace has ``expected``; it is in the caller's lease afterwards (CNT-025, CNT-087).
            InvalidArgument: no ref.
            NotFound: a lease that does not exist (CNT-088).
            Unavailable: somebody else has the ref open (CNT-034).
        """
        namespace = ctx.require_namespace()
        if not ref:
            raise InvalidArgument("ref must not be empty")
        with self._lock.shared():
            with self._database.update() as v1:
                if expected and buckets.find(v1, namespace, buckets.CONTENT, buckets.BLOB, expected) is not None:
                    try:
                        leases.add_content(ctx, v1, expected)
                    except NotFound as err:
                        raise NotFound(f"unable to lease content: {err.message}") from err
                    opened = None
                else:
                    opened = self._open(ctx, v1, namespace, ref, total, expected)
            # Raised behind the transaction, so that the entry in the lease stays.
            if opened is None:
                raise AlreadyExists(f"content {expected}")
        return opened

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest, its entry in the caller's lease, and its own bytes (CNT-046).

        A shared upload has bytes of its own only once it was written to (CNT-078); what it shares stays.
        """
        namespace = ctx.require_namespace()
        with self._lock.shared(), self._database.update() as v1:
            backend_ref = _backend_ref(v1, namespace, ref)
            buckets.remove(buckets.make(v1, namespace, buckets.CONTENT, buckets.INGESTS), ref)
            leases.remove_ingest(ctx, v1, ref)
            with contextlib.suppress(NotFound):
                self._backend.abort(ctx.with_lease(""), backend_ref)

    def clean(self) -> None:
        """Remove from the back end the blobs and ingests that no namespace has a record of (CNT-085, CNT-099, CNT-100).

        One that cannot be removed is logged, and the others go all the same (CNT-102).
        """
        ctx = CallContext()
        with self._lock.exclusive():
            with self._database.view() as v1:
                digests, refs = _recorded(v1)
            for digest in [info.digest for info in self._backend.walk(ctx)]:
                if digest not in digests:
                    _drop("content", digest, partial(self._backend.delete, ctx, digest))
            if isinstance(self._backend, content.IngestSweeper):
                self._backend.sweep_ingests(ctx, refs)
                return
            for ref in [status.ref for status in self._backend.list_statuses(ctx)]:
                if ref not in refs:
                    _drop("ingest", ref, partial(self._backend.abort, ctx, ref))

    def _open(
        self, ctx: CallContext, v1: kv.Bucket, namespace: str, ref: str, total: int, expected: str
    ) -> content.Writer:
        size = self._shared_size(ctx, v1, total, expected)
        record = buckets.make(v1, namespace, buckets.CONTENT, buckets.INGESTS, ref)
        leased = leases.add_ingest(ctx, v1, ref)
        backend_ref = buckets.text(record, buckets.REF)
        if not backend_ref:
            backend_ref = f"{namespace}/{record.next_sequence()}/{ref}"
            record.put(buckets.REF, buckets.encode_name(backend_ref))
        if not leased:
            record.put(buckets.EXPIRE_AT, encode_time(self._database.clock.now() + INGEST_LIFETIME))
        if size is None:
            # The back end is not told what is expected: it may hold that blob, and this namespace has yet to prove
            # that it knows the bytes. What an earlier, shared opening expected stays recorded, as in containerd: the
            # ingest goes on to protect it (GC-027).
            writer: content.Writer = self._backend.writer(ctx.with_lease(""), backend_ref, total=total)
        else:
            record.put(buckets.EXPECTED, buckets.encode_name(expected))
            now = self._database.clock.now()
            writer = SharedUpload(self._backend, ctx.with_lease(""), ref, backend_ref, expected, size, now)
        return NamespacedWriter(self._database, self._lock, namespace, ref, writer)

    def _shared_size(self, ctx: CallContext, v1: kv.Bucket, total: int, expected: str) -> int | None:
        """Bytes of a blob that this upload may take from others; None if it has to send them (CNT-076, CNT-077)."""
        if not expected:
            return None
        if self._policy == ISOLATED and not _offered(v1, expected):
            return None
        try:
            size = self._backend.info(ctx.with_lease(""), expected).size
        except ContainerdError:
            # Whatever keeps the back end from answering, an ordinary upload meets it next, or is not touched by it.
            return None
        return size if total in {0, size} else None


def _blob(v1: kv.Bucket, namespace: str, digest: str) -> kv.Bucket:
    record = buckets.find(v1, namespace, buckets.CONTENT, buckets.BLOB, digest)
    if record is None:
        raise NotFound(f"content digest {digest}")
    return record


def _backend_ref(v1: kv.Bucket, namespace: str, ref: str) -> str:
    record = buckets.find(v1, namespace, buckets.CONTENT, buckets.INGESTS, ref)
    backend_ref = buckets.text(record, buckets.REF) if record is not None else ""
    if not backend_ref:
        raise NotFound(f"reference {ref}")
    return backend_ref


def _read_info(digest: str, record: kv.Bucket) -> content.Info:
    return content.Info(
        digest,
        size=decode_varint(record.get(buckets.SIZE) or b"\0"),
        created_at=buckets.read_time(record, buckets.CREATED_AT),
        updated_at=buckets.read_time(record, buckets.UPDATED_AT),
        labels=buckets.read_labels(record),
    )


def _recorded(v1: kv.Bucket) -> tuple[set[str], set[str]]:
    """Digests and back-end refs that any namespace stands for; a shared upload stands for what it expects (CNT-085)."""
    digests, refs = set(), set()
    for _, namespace in buckets.subbuckets(v1):
        for digest, _record in buckets.subbuckets(buckets.find(namespace, buckets.CONTENT, buckets.BLOB)):
            digests.add(digest)
        for _ref, record in buckets.subbuckets(buckets.find(namespace, buckets.CONTENT, buckets.INGESTS)):
            digests.add(buckets.text(record, buckets.EXPECTED))
            refs.add(buckets.text(record, buckets.REF))
    return digests, refs


def _offered(v1: kv.Bucket, digest: str) -> bool:
    """Whether a namespace that has the blob gives its blobs away."""
    for _, namespace in buckets.subbuckets(v1):
        given = buckets.find(namespace, buckets.LABELS)
        held = buckets.find(namespace, buckets.CONTENT, buckets.BLOB, digest)
        if held is not None and given is not None and given.get(SHAREABLE) == b"true":
            return True
    return False


def _adaptor(info: content.Info) -> Adaptor:
    """The fields that a filter can ask for (CNT-064)."""

    def value(path: Sequence[str]) -> str | None:
        if path[0] == "digest":
            return info.digest
        return map_value(path, info.labels) if path[0] == "labels" else None

    return value


def _status_adaptor(ref: str) -> Adaptor:
    """The one field of an ingest that a filter can ask for (CNT-045)."""
    return lambda path: ref if path[0] == "ref" else None


def _drop(kind: str, name: str, action: Callable[[], None]) -> None:
    fields: dict[str, object] = {"key": name}
    try:
        action()
    except Exception as err:  # noqa: BLE001  # a back end may be anybody's code; its other blobs have to go
        _log.warning("failed to remove %s", kind, extra={"fields": {**fields, "error": err}})
    else:
        _log.debug("removed %s", kind, extra={"fields": fields})
