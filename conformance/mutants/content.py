"""Mutants of the content area: uploads, blobs, sharing, leases and collections, each with one mistake.

Where they are planted says how deep the mistake sits: ``grpc.content`` for what is wrong on the wire only,
``metadata.content`` for what a namespace sees, ``backend.content`` for the bytes.
"""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import hashlib
import itertools
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.mutants.engine import change, mutant, mutants
from conformance.mutants.shapes import argument, does_nothing, drops, each, other_kind, silent
from refimpl.api import content_v1_pb2 as pb
from refimpl.api import event_types_pb2
from refimpl.contract import digest as digests
from refimpl.contract.content import EMPTY_DIGEST, Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from refimpl.contract.gc import CollectionStats
from refimpl.contract.types import TypedAny

Method = Callable[..., Any]
Message = pb.WriteContentRequest

STAT, WRITE, COMMIT = pb.STAT, pb.WRITE, pb.COMMIT


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def requests(edit: Callable[[Message], Message | None]) -> Method:
    """A Write that changes its requests before it serves them; what becomes None is left out."""

    def method(original: Method, messages: Iterator[Message], context: Any) -> Any:
        return original((changed for m in messages if (changed := edit(m)) is not None), context)

    return method


def request_stream(edit: Callable[[Iterator[Message]], Iterator[Message]]) -> Method:
    """A Write that changes the stream of its requests as a whole."""
    return lambda original, messages, context: original(edit(messages), context)


def having(message: Message, **fields: Any) -> Message:
    """A copy of a message with other fields."""
    copy = pb.WriteContentRequest()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def writers(**methods: Method) -> Mapping[str, Method]:
    """Replacements for the methods of every writer that a store opens."""
    return {"writer": lambda original, *args, **kwargs: change(original(*args, **kwargs), methods)}


def when_commit_fails(kind: type[ContainerdError], react: Callable[[Any, CallContext, str, Any], object]) -> Method:
    """A ``writer`` whose commits, failing like this, first do something: react(store, ctx, ref, seen)."""

    def writer(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
        def commit(original_commit: Method, *args: Any, **kwargs: Any) -> Any:
            opened_at = owner(original_commit)
            digest = opened_at.digest()
            try:
                return original_commit(*args, **kwargs)
            except kind:
                labels = kwargs.get("labels") or (args[3] if len(args) > 3 else None)
                react(owner(original), ctx, ref, (digest, labels))
                raise

        return change(original(ctx, ref, **declared), commit=commit)

    return writer


def _ignores_bad_filters(original: Method, ctx: CallContext, filters: Any = ()) -> Any:
    try:
        return original(ctx, filters)
    except InvalidArgument:
        return original(ctx)


# ------------------------------------------------------------------------------------------------ messages of a stream


def _named(message: Message) -> Message:
    return message if message.ref or message.offset else having(message, ref="unnamed")


def _stat_is_write(message: Message) -> Message:
    return having(message, action=WRITE, offset=-1) if message.action == STAT and message.data else message


def _unchecked(message: Message) -> Message:
    return having(message, offset=-1) if message.offset > 0 else message


def _zero_appends(action: int) -> Callable[[Message], Message]:
    return lambda m: having(m, offset=-1) if m.action == action and m.offset == 0 else m


def _until_empty(messages: Iterator[Message]) -> Iterator[Message]:
    return itertools.takewhile(lambda m: m.action != WRITE or bool(m.data), messages)


def _only_commit_declares(message: Message) -> Message:
    return message if message.action == COMMIT else having(message, total=0, expected="")


def _first_declaration_stays(messages: Iterator[Message]) -> Iterator[Message]:
    total, expected = 0, ""
    for message in messages:
        total, expected = total or message.total, expected or message.expected
        yield having(message, total=total, expected=expected)


def _held_to_total(messages: Iterator[Message]) -> Iterator[Message]:
    total = written = 0
    for message in messages:
        total = max(total, message.total)
        written += len(message.data)
        if total and written > total:
            raise OutOfRange(f"{written} bytes are more than {total}")
        yield message


def _labels_add_up(messages: Iterator[Message]) -> Iterator[Message]:
    labels: dict[str, str] = {}
    for message in messages:
        labels |= message.labels
        copy = having(message)
        copy.labels.update(labels)
        yield copy


def _small(message: Message) -> Message:
    if message.ByteSize() > 4 << 20:
        raise ResourceExhausted(f"received message larger than max ({message.ByteSize()} vs. {4 << 20})")
    return message


mutants(
    "grpc.content",
    {
        "CNT-001": ("an empty ref gets a name", {"Write": requests(_named)}),
        "CNT-004": ("STAT appends its data", {"Write": requests(_stat_is_write)}),
        "CNT-008": ("a gap or overlap is appended", {"Write": requests(_unchecked)}),
        "CNT-009": ("offset 0 is read as not given", {"Write": requests(_zero_appends(WRITE))}),
        "CNT-010": ("COMMIT ignores its offset", {"Write": requests(_zero_appends(COMMIT))}),
        "CNT-011": (
            "a negative offset starts over",
            {"Write": requests(lambda m: having(m, offset=0) if m.offset < 0 else m)},
        ),
        "CNT-012": ("empty data ends the upload", {"Write": request_stream(_until_empty)}),
        "CNT-013": (
            "an unknown action is a WRITE",
            {"Write": requests(lambda m: having(m, action=WRITE) if m.action > COMMIT else m)},
        ),
        "CNT-017": (
            "data of the COMMIT is dropped",
            {"Write": requests(lambda m: having(m, data=b"") if m.action == COMMIT else m)},
        ),
        "CNT-020": ("only the COMMIT declares", {"Write": requests(_only_commit_declares)}),
        "CNT-021": ("a WRITE past the total fails", {"Write": request_stream(_held_to_total)}),
        "CNT-028": ("labels of all messages add up", {"Write": request_stream(_labels_add_up)}),
        "CNT-033": ("a message has at most 4 MiB", {"Write": requests(_small)}),
    },
)
mutants(
    "grpc.content",
    {"CNT-020": ("the first declaration is never replaced", {"Write": request_stream(_first_declaration_stays)})},
)


@mutant("CNT-002", "silence is success", at="grpc.content", method="Write")
def _silence(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    for first in messages:
        yield from original(itertools.chain([first], messages), context)


@mutant("CNT-005", "STAT has to come first", at="grpc.content", method="Write")
def _stat_first(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    def checked() -> Iterator[Message]:
        for number, message in enumerate(messages):
            if number == 0 and message.action != STAT:
                raise FailedPrecondition("a stream begins with STAT")
            yield message

    yield from original(checked(), context)


@mutant("CNT-006", "each message goes to its own ref", at="grpc.content", method="Write")
def _routed(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    last = ""

    def ref(message: Message) -> str:
        nonlocal last
        last = message.ref or last
        return last

    for _, group in itertools.groupby(messages, ref):
        yield from original((having(m, offset=-1) for m in group), context)


@mutant("CNT-007", "the offset where the write began", at="grpc.content", method="Write")
def _began(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    before = 0
    for answer in original(messages, context):
        end = answer.offset
        if answer.action == WRITE:
            answer.offset = before
        before = end
        yield answer


@mutant("CNT-014", "answers wait for the end of the requests", at="grpc.content", method="Write")
def _late(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    yield from list(original(iter(list(messages)), context))


@mutant("CNT-015", "the stream goes on after a COMMIT", at="grpc.content", method="Write")
def _goes_on(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    for first in messages:
        yield from original(itertools.chain([first], messages), context)


@mutant("CNT-016", "an unset time is the epoch", at="grpc.content", method="Write")
def _epoch(original: Method, messages: Iterator[Message], context: Any) -> Iterator[Any]:
    for answer in original(messages, context):
        if answer.started_at.seconds < 0:
            answer.started_at.Clear()
            answer.started_at.SetInParent()
        yield answer


# ------------------------------------------------------------------------------------------------------------- ingests


def _abort(store: Any, ctx: CallContext, ref: str, _: Any) -> None:
    store.abort(ctx, ref)


def _relabel(store: Any, ctx: CallContext, _: str, seen: Any) -> None:
    digest, labels = seen
    store.update(ctx, Info(digest, labels=labels or {}), ["labels"])


def _refuses_unknown_size(original: Method, ctx: CallContext, size: int = 0, *args: Any, **kwargs: Any) -> Any:
    if size == 0 and owner(original).status().offset:
        raise FailedPrecondition("0 bytes were announced")
    return original(ctx, size, *args, **kwargs)


def _refuses_nothing(original: Method, *args: Any, **kwargs: Any) -> Any:
    if owner(original).status().offset == 0:
        raise FailedPrecondition("nothing was written")
    return original(*args, **kwargs)


def _trusts_expected(original: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None) -> Any:
    return original(ctx, size, "", labels)


def _expected_only(valid: Callable[[str], bool]) -> Method:
    """A commit that forgets the expectations for which ``valid`` does not hold."""

    def commit(original: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None) -> Any:
        return original(ctx, size, expected if valid(expected) else "", labels)

    return commit


def _is_digest(text: str) -> bool:
    try:
        digests.validate(text)
    except InvalidArgument:
        return False
    return True


mutants(
    "metadata.content",
    {
        "CNT-001": ("an empty ref names an ingest", {"writer": argument(1, lambda ref: ref or "(no name)")}),
        "CNT-003": (
            "no digest before the first byte",
            writers(digest=lambda original: "" if original() == EMPTY_DIGEST else original()),
        ),
        "CNT-019": ("a refused commit drops the ingest", {"writer": when_commit_fails(FailedPrecondition, _abort)}),
        "CNT-022": ("a size of 0 is compared literally", writers(commit=_refuses_unknown_size)),
        "CNT-023": ("the expected digest is not compared", writers(commit=_trusts_expected)),
        "CNT-024": ("a malformed expectation is none", writers(commit=_expected_only(_is_digest))),
        "CNT-025": ("known content is uploaded again", {"writer": drops("expected")}),
        "CNT-026": ("an upload found to exist is left behind", {"abort": does_nothing()}),
        "CNT-027": ("a second commit relabels the record", {"writer": when_commit_fails(AlreadyExists, _relabel)}),
        "CNT-029": ("labels are looked at too late", {"writer": when_commit_fails(InvalidArgument, _abort)}),
        "CNT-030": ("nothing written is nothing to commit", writers(commit=_refuses_nothing)),
        "CNT-032": (
            "a sha512 is told and a sha256 is stored",
            writers(commit=_expected_only(lambda text: text.startswith("sha256:"))),
        ),
        "CNT-039": (
            "a ref is a path",
            {name: argument(1, posixpath.normpath) for name in ("writer", "status", "abort")},
        ),
        "CNT-045": ("filters that do not parse are ignored", {"list_statuses": _ignores_bad_filters}),
        "CNT-046": ("aborting nothing is success", {"abort": silent(NotFound)}),
        "CNT-103": ("losers are told of a failed rename", writers(commit=other_kind(Unknown, AlreadyExists))),
        "CNT-110": ("existing content has no kind of its own", writers(commit=other_kind(Unknown, AlreadyExists))),
    },
)


@mutant("CNT-018", "content is there while it is written", at="metadata.content", method="writer")
def _visible(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)
    writer = original(ctx, ref, **declared)

    def info(original_info: Method, ctx: CallContext, digest: str) -> Info:
        try:
            found: Info = original_info(ctx, digest)
        except NotFound:
            if writer.digest() != digest:
                raise
            return Info(digest, size=writer.status().offset)
        return found

    change(store, info=info)
    return writer


def _running(algorithm: str, original: Method, *args: Any, **kwargs: Any) -> Any:
    """A writer with a running digest of its own, over what it is given from now on."""
    running = hashlib.new(algorithm)

    def write(original_write: Method, data: bytes) -> Any:
        running.update(data)
        return original_write(data)

    return change(original(*args, **kwargs), write=write, digest=lambda _: f"{algorithm}:{running.hexdigest()}")


@mutant("CNT-031", "the running digest has the algorithm of the expected", at="metadata.content", method="writer")
def _other_algorithm(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    algorithm = declared.get("expected", "").partition(":")[0]
    return _running(algorithm if algorithm == "sha512" else "sha256", original, ctx, ref, **declared)


@mutant("CNT-040", "the running hash begins anew", at="backend.content", method="writer")
def _hash_anew(original: Method, *args: Any, **kwargs: Any) -> Any:
    return _running("sha256", original, *args, **kwargs)


@mutant("CNT-034", "a ref has many writers", at="backend.content", method="writer")
def _unlocked(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    owner(original).unlock(ref)
    return original(ctx, ref, **declared)


@mutant("CNT-038", "one writer for the whole store", at="backend.content", method="writer")
def _one_writer(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)
    if getattr(store, "busy", False):
        raise Unavailable("the store is busy")

    def close(original_close: Method) -> None:
        store.busy = False
        original_close()

    writer = change(original(ctx, ref, **declared), close=close)
    store.busy = True
    return writer


@mutant("CNT-041", "the total goes with the stream that declared it", at="backend.content", method="writer")
def _total_goes(original: Method, *args: Any, **kwargs: Any) -> Any:
    def close(original_close: Method) -> None:
        owner(original_close)._ingest.total = 0
        original_close()

    return change(original(*args, **kwargs), close=close)


@mutant("CNT-042", "another total resumes the old bytes", at="backend.content", method="writer")
def _total_ignored(original: Method, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Any:
    known = any(status.ref == ref for status in owner(original).list_statuses(ctx))
    return original(ctx, ref, total=0 if known else total, expected=expected)


@mutant("CNT-043", "a used ref is never free again", at="backend.content", method="abort")
def _tombstone(original: Method, ctx: CallContext, ref: str) -> None:
    original(ctx, ref)
    store = owner(original)
    prefix, _, name = ref.rpartition("/")
    namespace = prefix.split("/")[0]

    def writer(original_writer: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
        if ref.startswith(f"{namespace}/") and ref.endswith(f"/{name}"):
            raise Unavailable(f"{ref} is gone")
        return original_writer(ctx, ref, **declared)

    change(store, writer=writer)


@mutant("CNT-044", "no status while a writer is active", at="backend.content", method="status")
def _busy_status(original: Method, ctx: CallContext, ref: str) -> Any:
    if ref in owner(original)._locks:
        raise Unavailable(f"{ref} is locked")
    return original(ctx, ref)


@mutant("CNT-047", "an abort spares who is writing", at="backend.content", method="abort")
def _spares(original: Method, ctx: CallContext, ref: str) -> None:
    if ref not in owner(original)._locks:
        original(ctx, ref)


@mutant("CNT-050", "a leased ingest has the timer too", at="metadata.content", method="writer")
def _timer(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    if ctx.lease:
        original(ctx.with_lease(""), ref, total=declared.get("total", 0)).close()
    return original(ctx, ref, **declared)


@mutant("CNT-109", "an upload that broke off starts over", at="metadata.content", method="writer")
def _from_zero(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    writer = original(ctx, ref, **declared)
    if writer.status().offset:
        writer.truncate(0)
    return writer


def _bare_ref(ref: str) -> str:
    return ref.split("/", 2)[2]


mutants(
    "backend.content",
    {
        "CNT-035": ("a closed writer keeps its lock", writers(close=does_nothing())),
        "CNT-037": (
            "the back end has the bare ref",
            {name: argument(1, _bare_ref) for name in ("writer", "status", "abort")},
        ),
    },
)


# --------------------------------------------------------------------------------------------------------------- blobs


def _once_a_dot(paths: Any) -> list[str]:
    return [".".join(path.split(".")[:2]) for path in paths]


def _merges(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    return original(ctx, info, fieldpaths or [f"labels.{key}" for key in info.labels])


def _keeps_empty(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    after = original(ctx, info, fieldpaths)
    return replace(after, labels={**after.labels, **{key: "" for key, value in info.labels.items() if not value}})


def _path_by_path(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    after = None if fieldpaths else original(ctx, info)
    for path in fieldpaths:
        after = original(ctx, info, [path])
    return after


def _forged(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    return replace(original(ctx, info, fieldpaths), size=info.size, created_at=info.created_at)


def _value_alone(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    try:
        return original(ctx, info, fieldpaths)
    except InvalidArgument:
        if any(len(value) > 4096 for value in info.labels.values()):
            raise
        return info


def _all_filters(filters: Any) -> list[str]:
    return [",".join(filter(None, filters))] if filters else []


def _inequality_needs_field(filters: Any) -> list[str]:
    return [re.sub(r"(labels\.\w+)!=", r"\1,\1!=", text) for text in filters]


def _roots_stay(original: Method, ctx: CallContext, digest: str) -> Any:
    if "containerd.io/gc.root" in owner(original).info(ctx, digest).labels:
        raise FailedPrecondition(f"content {digest} is a root")
    return original(ctx, digest)


def _unlinks(original: Method, ctx: CallContext, digest: str) -> Any:
    original(ctx, digest)
    owner(original)._backend.delete(ctx, digest)


def _files_time(original: Method, ctx: CallContext, digest: str) -> Any:
    return replace(original(ctx, digest), created_at=owner(original)._backend.info(ctx, digest).created_at)


BY_DIGEST = ("info", "update", "delete", "reader")
METHODS = (*BY_DIGEST, "walk", "status", "list_statuses", "writer", "abort")

mutants(
    "metadata.content",
    {
        "CNT-051": ("the time of creation is the file's", {"info": _files_time}),
        "CNT-052": (
            "what is no digest is looked for",
            {name: other_kind(NotFound, InvalidArgument) for name in BY_DIGEST},
        ),
        "CNT-053": ("deleting nothing is success", {"delete": silent(NotFound)}),
        "CNT-054": ("a path is split at every dot", {"update": argument(2, _once_a_dot)}),
        "CNT-055": ("an update without mask merges", {"update": _merges}),
        "CNT-056": ("empty labels are kept", {"update": _keeps_empty}),
        "CNT-057": ("paths are applied one by one", {"update": _path_by_path}),
        "CNT-058": ("size and time can be forged", {"update": _forged}),
        "CNT-059": ("the limit is on the value alone", {"update": _value_alone}),
        "CNT-062": ("a list leaves out the labels", {"walk": each(lambda info: replace(info, labels={}))}),
        "CNT-063": ("all filters have to hold", {"walk": argument(1, _all_filters)}),
        "CNT-064": ("an inequality needs the field", {"walk": argument(1, _inequality_needs_field)}),
        "CNT-065": ("filters that do not parse are ignored", {"walk": _ignores_bad_filters}),
        "CNT-066": ("roots cannot be deleted", {"delete": _roots_stay}),
        "CNT-067": ("a deletion unlinks the bytes", {"delete": _unlinks}),
        "CNT-085": ("bytes go with the first record", {"delete": _unlinks}),
        "CNT-074": (
            "no namespace is the default one",
            {
                name: argument(0, lambda ctx: ctx if ctx.namespace else ctx.with_namespace("default"))
                for name in METHODS
            },
        ),
    },
)


@mutant("CNT-060", "a missing record is looked into", at="grpc.content", method="Update")
def _no_record(original: Method, request: pb.UpdateRequest, context: Any) -> Any:
    record = request.info if request.HasField("info") else None
    assert record is not None
    return original(request, context)


@mutant("CNT-061", "a list is one message", at="grpc.content", method="List")
def _one_message(original: Method, request: pb.ListContentRequest, context: Any) -> Iterator[pb.ListContentResponse]:
    yield pb.ListContentResponse(info=[info for block in original(request, context) for info in block.info])


@mutant("CNT-070", "offsets are positions in the blob", at="grpc.content", method="Read")
def _absolute(original: Method, request: pb.ReadContentRequest, context: Any) -> Iterator[pb.ReadContentResponse]:
    for piece in original(request, context):
        yield pb.ReadContentResponse(offset=piece.offset + max(request.offset, 0), data=piece.data)


@mutant("CNT-071", "the end of the blob is out of range", at="grpc.content", method="Read")
def _end_is_beyond(original: Method, request: pb.ReadContentRequest, context: Any) -> Iterator[pb.ReadContentResponse]:
    pieces = list(original(request, context))
    if not pieces and request.offset > 0:
        request = pb.ReadContentRequest(digest=request.digest, offset=request.offset + 1)
        pieces = list(original(request, context))
    yield from pieces


@mutant("CNT-072", "a deletion ends the reads under way", at="metadata.content", method="reader")
def _short_read(original: Method, ctx: CallContext, digest: str) -> Any:
    store = owner(original)

    def read_at(original_read: Method, offset: int, size: int) -> Any:
        try:
            store.info(ctx, digest)
        except NotFound:
            return b""
        return original_read(offset, size)

    return change(original(ctx, digest), read_at=read_at)


def _tell(store: Any, ctx: CallContext, topic: str, event: TypedAny) -> None:
    store._exchange.publish(ctx, topic, event)


@mutant("CNT-068", "a deletion is told before it is done", at="service.content", method="delete")
def _told_early(original: Method, ctx: CallContext, digest: str) -> None:
    try:
        original(ctx, digest)
    except NotFound:
        event = event_types_pb2.ContentDelete(digest=digest).SerializeToString()
        _tell(owner(original), ctx, "/content/delete", TypedAny("containerd.events.ContentDelete", event))
        raise


mutants("events", {"CNT-068": ("deletions are not told", {"publish": lambda original, ctx, topic, event: None
    if topic == "/content/delete" else original(ctx, topic, event)})})  # fmt: skip


@mutant("CNT-069", "a commit is told before it is done", at="service.content", method="writer")
def _create_told(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)

    def commit(original_commit: Method, *args: Any, **kwargs: Any) -> None:
        _tell(store, ctx, "/content/create", TypedAny("containerd.events.ContentCreate", b""))
        original_commit(*args, **kwargs)

    return change(original(ctx, ref, **declared), commit=commit)


@mutant("CNT-075", "labels live with the bytes", at="metadata.content", method="update")
def _shared_labels(original: Method, ctx: CallContext, info: Info, fieldpaths: Any = ()) -> Any:
    after = original(ctx, info, fieldpaths)

    def seen(original_info: Method, ctx: CallContext, digest: str) -> Any:
        found = original_info(ctx, digest)
        return replace(found, labels=after.labels) if digest == after.digest else found

    change(owner(original), info=seen)
    return after


# -------------------------------------------------------------------------------------------------- sharing and leases


@mutant("CNT-076", "sharing copies the labels", at="metadata.content", method="writer")
def _copies_labels(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)
    known: dict[str, dict[str, str]] = store.__dict__.setdefault("known_labels", {})

    def commit(
        original_commit: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None
    ) -> None:
        digest = owner(original_commit).digest()
        labels = {**known.get(digest, {}), **(labels or {})}
        original_commit(ctx, size, expected, labels)
        known[digest] = labels

    return change(original(ctx, ref, **declared), commit=commit)


@mutant("CNT-077", "the wrong size does not matter", at="metadata.content", method="writer")
def _any_size(original: Method, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Any:
    return original(ctx, ref, total=0 if expected else total, expected=expected)


@mutant("CNT-078", "aborting a shared upload deletes the blob", at="metadata.content", method="writer")
def _abort_deletes(original: Method, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Any:
    store = owner(original)

    def abort(original_abort: Method, ctx: CallContext, other: str) -> None:
        original_abort(ctx, other)
        if other == ref:
            store._backend.delete(ctx, expected)

    if expected:
        change(store, abort=abort)
    return original(ctx, ref, total=total, expected=expected)


@mutant("CNT-079", "a shared upload is not checked", at="metadata.content", method="writer")
def _unchecked_share(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    writer = original(ctx, ref, **declared)
    if writer.status().offset and declared.get("expected"):
        return change(
            writer,
            commit=lambda original_commit, ctx, size=0, expected="", labels=None: original_commit(ctx, 0, "", labels),
        )
    return writer


@mutant("CNT-080", "an append goes to the shared bytes", at="metadata.content", method="writer")
def _appends_to_shared(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)
    writer = original(ctx, ref, **declared)
    if not writer.status().offset or not declared.get("expected"):
        return writer

    def write(original_write: Method, data: bytes) -> Any:
        store._backend._blobs[declared["expected"]].content.append(data)
        return original_write(data)

    return change(writer, write=write)


@mutant("CNT-081", "content of another namespace exists already", at="metadata.content", method="writer")
def _leaks_exists(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    backend = owner(original)._backend

    def commit(original_commit: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> None:
        digest = owner(original_commit).digest()
        known = any(info.digest == digest for info in backend.walk(ctx))
        original_commit(ctx, *args, **kwargs)
        if known:
            raise AlreadyExists(f"content {digest}")

    return change(original(ctx, ref, **declared), commit=commit)


@mutant("CNT-082", "the isolated policy hides only the record", at="metadata.content", method="writer")
def _grants(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    owner(original)._policy = "shared"
    return original(ctx, ref, **declared)


mutants(
    "service.introspection",
    {
        "CNT-083": (
            "nothing tells why the store is disabled",
            {"plugins": each(lambda plugin: replace(plugin, init_err=None))},
        ),
        "CNT-093": (
            "the directory is not told",
            {"plugins": each(lambda plugin: replace(plugin, exports={}))},
        ),
    },
)


@mutant("CNT-084", "the reader's label counts", at="metadata.content", method="writer")
def _readers_label(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store = owner(original)
    with store._database.view() as v1:
        namespace = v1.bucket(ctx.namespace.encode())
        labels = namespace and namespace.bucket(b"labels")
        offered = labels and labels.get(b"containerd.io/namespace.shareable") == b"true"
    store._policy = "shared" if offered else store._policy
    return original(ctx, ref, **declared)


@mutant("CNT-086", "an ingest stays in its lease", at="metadata.leases", method="list_resources")
def _stays_leased(original: Method, ctx: CallContext, lease: str) -> Any:
    seen: list[Any] = owner(original).__dict__.setdefault("seen_ingests", [])
    found = original(ctx, lease)
    seen += [entry for entry in found if entry.type == "ingests" and entry not in seen]
    return [*found, *(entry for entry in seen if entry not in found)]


@mutant("CNT-087", "the entry in the lease goes with the error", at="metadata.content", method="writer")
def _not_leased(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store, expected = owner(original), declared.get("expected", "")
    if expected and any(info.digest == expected for info in store.walk(ctx)):
        raise AlreadyExists(f"content {expected}")
    return original(ctx, ref, **declared)


@mutant("CNT-088", "an unknown lease is ignored", at="metadata.content", method="writer")
def _no_lease(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    try:
        return original(ctx, ref, **declared)
    except NotFound:
        return original(ctx.with_lease(""), ref, **declared)


# ---------------------------------------------------------------------------------------------------------- collections


def _namespaces(metadata: Any) -> Iterator[CallContext]:
    for namespace in metadata.namespaces.list(CallContext()):
        yield CallContext(namespace=namespace.name)


@mutant("CNT-049", "collections drop uploads in progress", at="metadata", method="collect")
def _drops_uploads(original: Method, ctx: CallContext) -> Any:
    metadata = owner(original)
    for each_ns in _namespaces(metadata):
        for status in metadata.content.list_statuses(each_ns):
            metadata.content.abort(each_ns, status.ref)
    return original(ctx)


@mutant("CNT-089", "an entry without its blob ends the collection", at="metadata", method="collect")
def _dangling(original: Method, ctx: CallContext) -> Any:
    metadata = owner(original)
    for each_ns in _namespaces(metadata):
        for lease in metadata.leases.list(each_ns):
            for entry in metadata.leases.list_resources(each_ns, lease.id):
                if entry.type == "content":
                    metadata.content.info(each_ns, entry.id)
    return original(ctx)


mutants("metadata", {"CNT-090": ("content is never collected", {"collect": does_nothing(CollectionStats(0.0, {}))})})


@mutant("CNT-091", "every label that begins like a reference is one", at="metadata", method="collect")
def _any_label(original: Method, ctx: CallContext) -> Any:
    metadata, ref = owner(original), "containerd.io/gc.ref.content"
    for each_ns in _namespaces(metadata):
        for info in metadata.content.walk(each_ns):
            more = {
                f"{ref}.{key}": value
                for key, value in info.labels.items()
                if key.startswith(ref) and key.removeprefix(ref)[:1] not in {"", ".", "/"}
            }
            if more:
                metadata.content.update(each_ns, Info(info.digest, labels=more), [f"labels.{key}" for key in more])
    return original(ctx)


def _without_label(name: str) -> Method:
    def create(original: Method, ctx: CallContext, id: str = "", labels: Any = None) -> Any:
        return original(ctx, id, {key: value for key, value in (labels or {}).items() if key != name})

    return create


mutants("metadata.leases", {"CNT-092": ("no lease is flat", {"create": _without_label("containerd.io/gc.flat")})})
mutants("metadata.leases", {"CNT-092": ("no lease expires", {"create": _without_label("containerd.io/gc.expire")})})


# -------------------------------------------------------------------------------------- crashes, the bare store, labels


def _volatile_writer(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    memory: dict[Any, Any] = owner(original).__dict__.setdefault("volatile", {})

    def commit(
        original_commit: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None
    ) -> None:
        digest, labels = owner(original_commit).digest(), labels or {}
        kept = {key: value for key, value in labels.items() if key.startswith("containerd.io/gc.")}
        original_commit(ctx, size, expected, kept)
        memory[ctx.namespace, digest] = labels

    return change(original(ctx, ref, **declared), commit=commit)


def _volatile_info(original: Method, ctx: CallContext, digest: str) -> Any:
    found = original(ctx, digest)
    memory = owner(original).__dict__.get("volatile", {})
    return replace(found, labels={**memory.get((ctx.namespace, digest), {}), **found.labels})


mutants(
    "metadata.content",
    {"CNT-097": ("labels live in memory", {"writer": _volatile_writer, "info": _volatile_info})},
)


def _wiped(original: Method, *args: Any, **kwargs: Any) -> Any:
    store = owner(original)
    if not getattr(store, "started", False):
        store.started = True
        store._ingests.clear()
    return original(*args, **kwargs)


def _wants_namespace(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    ctx.require_namespace()
    return original(ctx, *args, **kwargs)


def _wants_blob(original: Method, ctx: CallContext, digest: str) -> Any:
    owner(original).info(ctx, digest)
    return original(ctx, digest)


mutants(
    "backend.content",
    {
        "CNT-098": ("a start wipes the ingests", {"writer": _wiped, "status": _wiped}),
        "CNT-105": ("the back end wants a namespace", {"info": _wants_namespace, "walk": _wants_namespace}),
        "CNT-106": ("deleting an absent blob fails", {"delete": _wants_blob}),
    },
)


@mutant("CNT-107", "the store guesses what is compressed", at="metadata.content", method="writer")
def _guesses(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    received: list[bytes] = []

    def write(original_write: Method, data: bytes) -> Any:
        received.append(data)
        return original_write(data)

    def commit(
        original_commit: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None
    ) -> None:
        data = b"".join(received)
        guess = {"containerd.io/uncompressed": digests.from_bytes(data)} if data.startswith(b"\x1f\x8b") else {}
        original_commit(ctx, size, expected, {**guess, **(labels or {})})

    return change(original(ctx, ref, **declared), write=write, commit=commit)


@mutant("CNT-108", "the second source replaces the first", at="metadata.content", method="update")
def _one_source(original: Method, ctx: CallContext, info: Info, paths: Sequence[str] = ()) -> Any:
    before = owner(original).info(ctx, info.digest).labels
    labels = dict(info.labels)
    for key, value in info.labels.items():
        if key.startswith("containerd.io/distribution.source."):
            known = before.get(key, "").split(",")
            labels[key] = ",".join([source for source in value.split(",") if source not in known] or known)
    return original(ctx, replace(info, labels=labels), paths)
