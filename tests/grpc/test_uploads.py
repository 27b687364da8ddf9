"""Write streams, message by message, over the bare store in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from refimpl.api import content_v1_pb2 as pb
from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.content import MemoryContent
from refimpl.contract.content import EMPTY_DIGEST
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unavailable,
    Unknown,
)
from refimpl.contract.times import SECOND
from refimpl.grpc import convert
from refimpl.grpc.uploads import answers

CTX = CallContext()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryContent:
    return MemoryContent(clock)


def stat(**fields: Any) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=pb.STAT, **fields)


def write(data: bytes, **fields: Any) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=pb.WRITE, data=data, **fields)


def commit(data: bytes = b"", **fields: Any) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=pb.COMMIT, data=data, **fields)


def stream(store: MemoryContent, *requests: pb.WriteContentRequest) -> list[pb.WriteContentResponse]:
    """All answers; the repeat of the last one is checked and left out."""
    found = list(answers(store, CTX, iter(requests)))
    assert found[-1] == found[-2]
    return found[:-1]


def test_the_first_message_must_name_the_ingest(store: MemoryContent) -> None:
    for first in (stat(), write(b"x"), commit(b"x")):
        with pytest.raises(InvalidArgument) as raised:
            stream(store, first)
        assert str(raised.value) == "first message must have a reference"
    with pytest.raises(Unknown, match=r"\AEOF\Z"):
        stream(store)
    assert store.list_statuses(CTX) == []


def test_stat_describes_and_changes_nothing(store: MemoryContent, clock: FakeClock) -> None:
    stream(store, write(b"123456789", ref="r", total=20))
    clock.advance(1)
    answer, again = stream(store, stat(ref="r", data=b"x", offset=3, labels={"a": "b"}), stat(total=30))
    assert (answer.action, answer.offset, answer.total) == (pb.STAT, 9, 0)
    assert answer.digest == digest_of(b"123456789")
    assert convert.time_from(answer.started_at) == convert.time_from(answer.updated_at) == EPOCH
    assert again.total == 30
    assert store.status(CTX, "r").total == 20


def test_every_message_has_one_answer_with_the_offset_and_digest_so_far(store: MemoryContent) -> None:
    found = stream(store, write(b"abc", ref="r"), write(b"def", offset=3, ref="other"), commit(b"g", offset=6))
    assert [each.action for each in found] == [pb.WRITE, pb.WRITE, pb.COMMIT]
    assert [each.offset for each in found] == [3, 6, 7]
    assert [each.digest for each in found] == [digest_of(b"abc"), digest_of(b"abcdef"), digest_of(b"abcdefg")]
    assert store.info(CTX, digest_of(b"abcdefg")).size == 7
    assert store.list_statuses(CTX) == [], "the ref of a later message names nothing"


def test_answers_keep_what_they_said_when_later_ones_are_made(store: MemoryContent) -> None:
    requests = iter([write(b"a", ref="r"), write(b"b", offset=1)])
    made = answers(store, CTX, requests)
    first = next(made)
    next(made)
    assert first.offset == 1


def test_after_a_commit_no_message_is_looked_at(store: MemoryContent) -> None:
    def requests() -> Iterator[pb.WriteContentRequest]:
        yield commit(b"x", ref="r")
        raise AssertionError("the stream is over")

    assert len(list(answers(store, CTX, requests()))) == 2


def test_times_and_total_are_those_of_the_latest_stat(store: MemoryContent, clock: FakeClock) -> None:
    before, _, after = stream(store, write(b"a", ref="r", total=9), stat(), write(b"b", offset=1))
    assert before.started_at.seconds == -62135596800
    assert before.total == 0
    assert (after.started_at.seconds, after.total) == (EPOCH // SECOND, 9)


@pytest.mark.parametrize("action", [pb.WRITE, pb.COMMIT])
@pytest.mark.parametrize("offset", [4, 9])
def test_a_positive_offset_must_be_the_end(store: MemoryContent, action: Any, offset: int) -> None:
    with pytest.raises(OutOfRange) as raised:
        stream(store, write(b"123456", ref="r"), pb.WriteContentRequest(action=action, offset=offset, data=b"x"))
    assert str(raised.value) == f"write @{offset} must occur at current offset 6"
    assert stream(store, stat(ref="r"))[0].offset == 6, "the bytes stay and the lock is gone"


def test_offset_zero_starts_over_in_write_and_in_commit(store: MemoryContent) -> None:
    found = stream(store, write(b"wrong", ref="r"), write(b"right"), write(b"", offset=5), write(b""))
    assert [each.offset for each in found] == [5, 5, 5, 0]
    assert found[-1].digest == EMPTY_DIGEST
    found = stream(store, write(b"lost", ref="r"), commit())
    assert found[-1].digest == EMPTY_DIGEST


def test_a_negative_offset_appends_unchecked(store: MemoryContent) -> None:
    assert stream(store, write(b"ab", ref="r"), write(b"c", offset=-1))[-1].digest == digest_of(b"abc")


def test_an_unknown_action_is_echoed_and_does_nothing(store: MemoryContent) -> None:
    odd = pb.WriteContentRequest(data=b"zzz", offset=99)
    odd.action = 7  # type: ignore[assignment]  # the wire carries any number
    found = stream(store, write(b"ab", ref="r"), odd)
    assert (found[-1].action, found[-1].offset) == (7, 2)


def test_the_last_declared_total_and_digest_are_enforced(store: MemoryContent) -> None:
    stream(store, write(b"12345", ref="a", total=9), commit(offset=5, total=5))
    with pytest.raises(FailedPrecondition):
        stream(store, write(b"123456", ref="b", total=9), commit(offset=6))
    with pytest.raises(FailedPrecondition):
        stream(store, write(b"1234567", ref="c", total=-5), commit(offset=7))
    with pytest.raises(FailedPrecondition):
        stream(store, write(b"12345678", ref="d"), stat(expected=EMPTY_DIGEST), commit(offset=8))
    assert sorted(each.ref for each in store.list_statuses(CTX)) == ["b", "c", "d"]


def test_an_expected_digest_that_turns_out_to_be_there_drops_the_ingest(store: MemoryContent) -> None:
    stream(store, commit(b"hello", ref="first"))
    with pytest.raises(AlreadyExists) as raised:
        stream(store, write(b"he", ref="r"), write(b"llo", offset=2, expected=digest_of(b"hello")))
    assert str(raised.value) == f"blob with expected digest {digest_of(b'hello')} exists"
    with pytest.raises(NotFound):
        store.status(CTX, "r")
    with pytest.raises(AlreadyExists):
        stream(store, stat(ref="r", expected=digest_of(b"hello")))
    assert store.list_statuses(CTX) == []


def test_a_malformed_digest_in_a_later_message_fails_to_match_at_commit(store: MemoryContent) -> None:
    with pytest.raises(FailedPrecondition):
        stream(store, stat(ref="r"), commit(b"x", expected="foo"))


@pytest.mark.parametrize("end", ["half-close", "cancel", "error"])
def test_however_the_stream_ends_the_ref_is_free_and_the_bytes_stay(store: MemoryContent, end: str) -> None:
    class Gone(Exception):
        pass

    def requests() -> Iterator[pb.WriteContentRequest]:
        yield write(b"abc", ref="r")
        if end == "error":
            raise Gone

    made = answers(store, CTX, requests())
    next(made)
    with pytest.raises(Unavailable):
        store.writer(CTX, "r")
    if end == "half-close":
        assert list(made)
    elif end == "cancel":
        made.close()  # type: ignore[attr-defined]  # a generator, as grpc's pool drops it
    else:
        with pytest.raises(Gone):
            next(made)
    assert stream(store, stat(ref="r"))[0].offset == 3
