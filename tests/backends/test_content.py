"""What every bare content store owes, in memory or on disk (CNT-105, CNT-106), seen as an object."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.content import MemoryContent
from refimpl.backends.real.content import FileContent
from refimpl.contract.content import EMPTY_DIGEST, ContentStore, Info
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.times import SECOND
from tests.backends.blobs import CTX, digest_of, put, read

MAKERS: dict[str, Callable[[Path, FakeClock], ContentStore]] = {
    "memory": lambda _, clock: MemoryContent(clock),
    "files": FileContent,
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> ContentStore:
    return MAKERS[request.param](tmp_path / "store", clock)


def test_what_was_committed_is_read_back_and_described(store: ContentStore, clock: FakeClock) -> None:
    clock.advance(5)
    digest = put(store, b"hello")
    assert store.info(CTX, digest) == Info(digest, 5, created_at=EPOCH + 5 * SECOND, updated_at=EPOCH + 5 * SECOND)
    assert read(store, digest) == b"hello"


def test_the_empty_blob_can_be_stored(store: ContentStore) -> None:
    store.writer(CTX, "empty").commit(CTX)
    assert read(store, EMPTY_DIGEST) == b""


def test_an_ingest_is_resumed_where_it_stood(store: ContentStore, clock: FakeClock) -> None:
    writer = store.writer(CTX, "ref", total=10)
    writer.write(b"hello")
    writer.close()
    clock.advance(1)

    resumed = store.writer(CTX, "ref")
    assert (resumed.status().offset, resumed.status().total) == (5, 10)
    assert resumed.digest() == digest_of(b"hello")
    resumed.write(b"world")
    assert store.status(CTX, "ref").started_at == EPOCH
    assert store.status(CTX, "ref").updated_at >= EPOCH + SECOND
    resumed.commit(CTX, 10, digest_of(b"helloworld"))
    assert read(store, digest_of(b"helloworld")) == b"helloworld"


def test_another_total_starts_over_and_an_unknown_one_does_not(store: ContentStore, clock: FakeClock) -> None:
    for total in (10, 0, 10):
        writer = store.writer(CTX, "ref", total=total)
        writer.write(b"x")
        writer.close()
    assert store.status(CTX, "ref").offset == 3
    clock.advance(1)
    store.writer(CTX, "ref", total=11).close()
    assert (store.status(CTX, "ref").offset, store.status(CTX, "ref").started_at) == (0, EPOCH + SECOND)


def test_truncation_to_nothing_starts_the_digest_over(store: ContentStore) -> None:
    writer = store.writer(CTX, "ref")
    writer.write(b"wrong")
    writer.truncate(0)
    assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
    with pytest.raises(Unimplemented):
        writer.truncate(1)


def test_a_ref_has_one_writer_and_says_since_when(store: ContentStore, clock: FakeClock) -> None:
    writer = store.writer(CTX, "ref")
    clock.advance(0.25)
    with pytest.raises(Unavailable) as raised:
        store.writer(CTX, "ref")
    assert str(raised.value) == (
        "ref ref locked for 250.000000ms (since 2023-11-14 22:13:20.000000000 +0000 UTC m=+0.000000000): unavailable"
    )
    store.writer(CTX, "other").close()
    writer.close()
    writer.close()
    store.writer(CTX, "ref").close()


def test_a_refused_commit_keeps_the_ingest_and_lets_go_of_the_ref(store: ContentStore) -> None:
    for size, expected, text in (
        (9, "", "unexpected commit size 5, expected 9"),
        (-5, "", "unexpected commit size 5, expected -5"),
        (5, EMPTY_DIGEST, f"unexpected commit digest {digest_of(b'hello')}, expected {EMPTY_DIGEST}"),
    ):
        writer = store.writer(CTX, "ref")
        writer.truncate(0)
        writer.write(b"hello")
        with pytest.raises(FailedPrecondition, match=text):
            writer.commit(CTX, size, expected)
        assert store.status(CTX, "ref").offset == 5
    assert list(store.walk(CTX)) == []


def test_a_closed_writer_takes_nothing_more_and_still_knows_its_digest(store: ContentStore) -> None:
    writer = store.writer(CTX, "ref")
    writer.write(b"hello")
    writer.commit(CTX)
    assert writer.digest() == digest_of(b"hello")
    for late in (lambda: writer.commit(CTX), lambda: writer.write(b"x"), lambda: writer.truncate(0)):
        with pytest.raises(FailedPrecondition, match="closed writer"):
            late()


def test_content_that_is_there_is_refused_at_both_ends(store: ContentStore) -> None:
    digest = put(store, b"hello")
    with pytest.raises(AlreadyExists, match=f"content {digest}"):
        store.writer(CTX, "again", expected=digest)
    with pytest.raises(AlreadyExists):
        put(store, b"hello", ref="again")
    assert store.list_statuses(CTX) == [], "a commit of known content consumes the ingest"


def test_a_writer_whose_ingest_was_aborted_stores_nothing_and_keeps_its_lock(store: ContentStore) -> None:
    writer = store.writer(CTX, "ref")
    writer.write(b"hello")
    store.abort(CTX, "ref")
    with pytest.raises(NotFound):
        store.status(CTX, "ref")
    with pytest.raises(Unavailable):
        store.writer(CTX, "ref")
    with pytest.raises(Unknown):
        writer.commit(CTX)
    assert list(store.walk(CTX)) == []
    assert store.writer(CTX, "ref").status().offset == 0


def test_labels_are_dropped_and_nothing_can_be_updated(store: ContentStore) -> None:
    writer = store.writer(CTX, "ref")
    writer.commit(CTX, labels={"a": "b"})
    assert store.info(CTX, EMPTY_DIGEST).labels == {}
    with pytest.raises(FailedPrecondition):
        store.update(CTX, Info(EMPTY_DIGEST, labels={"a": "b"}), ["labels.a"])


def test_deleting_and_aborting_what_is_not_there_is_no_error(store: ContentStore) -> None:
    store.delete(CTX, EMPTY_DIGEST)
    store.abort(CTX, "nothing")


def test_what_is_not_there_is_not_found_and_what_is_no_digest_is_refused(store: ContentStore) -> None:
    for call in (store.info, store.reader):
        with pytest.raises(NotFound):
            call(CTX, EMPTY_DIGEST)
    for refused in (store.info, store.reader, store.delete):
        with pytest.raises(InvalidArgument):
            refused(CTX, "sha256:zz")
    with pytest.raises(InvalidArgument):
        store.writer(CTX, "ref", expected="foo")
    with pytest.raises(InvalidArgument):
        store.writer(CTX, "")


def test_lists_are_filtered_by_name_alone(store: ContentStore) -> None:
    put(store, b"a")
    digest = put(store, b"b")
    assert [info.digest for info in store.walk(CTX, [f"digest=={digest}"])] == [digest]
    assert [info.digest for info in store.walk(CTX)] == sorted([digest, digest_of(b"a")])
    assert list(store.walk(CTX, ["size==1"])) == []
    store.writer(CTX, "one").close()
    store.writer(CTX, "two").close()
    assert [status.ref for status in store.list_statuses(CTX, ["ref~=^t"])] == ["two"]
    with pytest.raises(InvalidArgument):
        store.walk(CTX, ["bad="])
    with pytest.raises(InvalidArgument):
        store.list_statuses(CTX, ["bad="])


def test_a_reader_keeps_its_blob_when_it_is_deleted(store: ContentStore) -> None:
    digest = put(store, b"hello")
    reader = store.reader(CTX, digest)
    store.delete(CTX, digest)
    assert reader.read_at(1, 3) == b"ell"
    reader.close()
    with pytest.raises(NotFound):
        store.reader(CTX, digest)


def test_of_many_commits_of_the_same_bytes_exactly_one_succeeds(store: ContentStore) -> None:
    together = threading.Barrier(8)

    def commit(number: int) -> bool:
        writer = store.writer(CTX, f"ref-{number}")
        writer.write(b"same")
        together.wait(60)
        try:
            writer.commit(CTX)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(commit, range(8))) == 1
    assert store.list_statuses(CTX) == []
