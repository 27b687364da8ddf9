"""Content, the ingests: locks, refs, resuming, status and the end of an upload (CNT-034 to CNT-050)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from conformance import clause
from conformance.suites._content import (
    PATIENCE,
    ROOTED,
    begin,
    digest_of,
    eventually,
    fresh,
    has,
    offset_of,
    opens_at,
    read,
    stat,
    store,
    upload,  # a fixture
    write,
)
from conformance.wire import Wire
from refimpl.contract.content import EMPTY_DIGEST
from refimpl.contract.errors import ContainerdError, FailedPrecondition, InvalidArgument, NotFound, Unavailable


@clause("CNT-034")
def test_a_ref_has_at_most_one_writer(ctx, content, unique):
    """Rejects: two writers whose bytes mix in one file."""
    ref = unique("ref")
    first = content.writer(ctx, ref)
    try:
        first.write(b"abc")
        with pytest.raises(Unavailable):
            content.writer(ctx, ref)
        first.write(b"def")
        assert (first.status().offset, first.digest()) == (6, digest_of(b"abcdef")), "the first one is not disturbed"
    finally:
        first.close()


@clause("CNT-035")
def test_closing_a_writer_frees_the_ref_and_keeps_the_bytes(ctx, content, unique):
    """Rejects: a lock, or bytes, that go another way than the stream."""
    ref = unique("ref")
    begin(content, ctx, ref, b"abc")

    again = content.writer(ctx, ref)
    try:
        assert (again.status().offset, again.digest()) == (3, digest_of(b"abc"))
    finally:
        again.close()
    again.close()  # a second time is no mistake


@clause("CNT-035")
@pytest.mark.parametrize("ending", ["cancel", "connection"])
def test_a_client_that_goes_away_frees_the_ref_and_keeps_the_bytes(ctx, content, subject, upload, unique, ending):
    """Rejects: a ref that stays locked until the daemon is restarted."""
    ref, gone = unique("ref"), threading.Event()
    line = Wire(subject.address)

    def messages():
        yield write(b"abc", ref=ref)
        gone.wait(3 * PATIENCE)

    def talk():
        with suppress(ValueError):  # what grpc says of a channel that is closed under a call
            upload.stream(messages(), wire=line, limit=1 if ending == "cancel" else None)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        assert eventually(lambda: offset_of(content, ctx, ref) == 3)
        if ending == "connection":
            line.close()
    finally:
        gone.set()
        talker.join(PATIENCE)
        line.close()

    assert eventually(lambda: opens_at(content, ctx, ref) == 3), "the ref is free, and has every byte"


@clause("CNT-035")
def test_an_error_frees_the_ref_and_keeps_the_bytes(ctx, content, upload, unique):
    """Rejects: a lock that outlives a refused message."""
    ref = unique("ref")

    assert upload(write(b"abcdef", ref=ref), write(b"x", offset=99)).code == "OUT_OF_RANGE"

    assert eventually(lambda: opens_at(content, ctx, ref) == 6)


@clause("CNT-036")
def test_a_busy_ref_is_told_before_the_other_writer_is_done(ctx, content, unique):
    """Rejects: a second writer that waits for the end of the first one."""
    ref = unique("ref")
    first = content.writer(ctx, ref)
    try:
        start = time.monotonic()
        with pytest.raises(Unavailable):
            content.writer(ctx, ref)
        # Who waits does so until the first one is closed, below.
        assert time.monotonic() - start < PATIENCE
    finally:
        first.close()


@clause("CNT-037")
def test_one_ref_names_different_ingests_in_different_namespaces(ctx, content, new_namespace, unique):
    """Rejects: a back end that is asked for the bare ref."""
    ref, other, third = unique("ref"), new_namespace(), new_namespace()
    writer = content.writer(ctx, ref)
    try:
        writer.write(b"abc")
        second = content.writer(other, ref)
        try:
            assert second.status().offset == 0
            assert content.status(ctx, ref).offset == 3
        finally:
            second.close()
        assert content.list_statuses(third) == []
        with pytest.raises(NotFound):
            content.status(third, ref)
    finally:
        writer.close()


@clause("CNT-038")
def test_different_refs_are_written_at_the_same_time(ctx, content, unique):
    """Rejects: one lock for all writers of a store."""
    expected = digest_of(fresh())
    first = content.writer(ctx, unique("ref"), expected=expected)
    try:
        second = content.writer(ctx, unique("ref"), expected=expected)
        try:
            first.write(b"first")
            second.write(b"other")
            assert (first.digest(), second.digest()) == (digest_of(b"first"), digest_of(b"other"))
        finally:
            second.close()

        blobs = [fresh(50_000) for _ in range(24)]
        with ThreadPoolExecutor(8) as clients:
            digests = list(clients.map(lambda data: store(content, ctx, data), blobs))
        assert [read(content, ctx, digest) for digest in digests] == blobs
    finally:
        first.close()


@clause("CNT-039")
@pytest.mark.parametrize(
    "ref",
    ["../../../x", "a b", "a/b/c", ".", "\0a", "a\nb", "\u00e9\u4e2d", 1000 * "x", 32000 * "x"],
    ids=["up", "blank", "slashes", "dot", "nul", "newline", "non-ascii", "1000", "32000"],
)
def test_a_ref_is_any_text_and_comes_back_unchanged(ctx, content, ref):
    """Rejects: joining the ref to a directory name."""
    writer = content.writer(ctx, ref)
    try:
        assert writer.status().ref == ref
        assert content.status(ctx, ref).ref == ref
        assert [status.ref for status in content.list_statuses(ctx)] == [ref]
    finally:
        writer.close()
    content.abort(ctx, ref)
    # Not by its status: an error's text has the ref in it, and one of 32,000 bytes fits into no trailer.
    assert content.list_statuses(ctx) == []


@clause("CNT-039")
def test_refs_that_look_like_one_path_are_different(ctx, content):
    """Rejects: a normalised name."""
    begin(content, ctx, "a/b", b"1")
    begin(content, ctx, "a//b", b"22")
    begin(content, ctx, "a/./b", b"333")

    assert [content.status(ctx, ref).offset for ref in ("a/b", "a//b", "a/./b")] == [1, 2, 3]


@clause("CNT-040")
def test_an_ingest_is_resumed_where_it_stood(ctx, content, unique):
    """Rejects: a running hash that is not rebuilt from the bytes that are there."""
    ref, data = unique("ref"), fresh(6)
    begin(content, ctx, ref, data[:3])
    started = content.status(ctx, ref).started_at

    again = content.writer(ctx, ref)
    try:
        status = again.status()
        assert (status.offset, again.digest(), status.started_at) == (3, digest_of(data[:3]), started)
        again.write(data[3:])
        again.commit(ctx, 6, digest_of(data))
    finally:
        again.close()
    assert read(content, ctx, digest_of(data)) == data


@clause("CNT-041")
def test_the_first_declared_total_stays_with_the_ingest(ctx, content, unique):
    """Rejects: a total that ends with the stream that declared it."""
    ref = unique("ref")
    begin(content, ctx, ref, b"", total=10)
    assert content.status(ctx, ref).total == 10

    begin(content, ctx, ref, b"abc")
    assert content.status(ctx, ref).total == 10
    assert [status.total for status in content.list_statuses(ctx) if status.ref == ref] == [10]


@clause("CNT-041")
def test_a_stream_is_told_only_the_total_that_it_declared(ctx, content, upload, unique):
    """Rejects: answering with the remembered total, which the client would take for its own."""
    ref = unique("ref")
    assert upload(stat(ref, total=10)).messages[0].total == 10
    assert upload(stat(ref)).messages[0].total == 0


@clause("CNT-042")
def test_another_total_starts_over_and_never_commits_stale_bytes(ctx, content, unique):
    """Rejects: two new bytes followed by three old ones."""
    ref, old, new = unique("ref"), fresh(5), fresh(2)
    begin(content, ctx, ref, old, total=10)

    again = content.writer(ctx, ref, total=20)
    try:
        assert (again.status().offset, again.digest()) == (0, EMPTY_DIGEST)
        again.write(new)
        assert again.digest() == digest_of(new)
        try:
            again.commit(ctx, 2)
        except FailedPrecondition:
            assert not has(content, ctx, digest_of(new))
        else:
            assert read(content, ctx, digest_of(new)) == new
    finally:
        again.close()
    assert not has(content, ctx, digest_of(new + old[2:]))


@clause("CNT-043")
@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_ref_is_free_again_after_its_ingest(ctx, content, unique, end):
    """Rejects: a tombstone that makes the ref unusable, or an ingest that begins with old bytes."""
    ref, data = unique("ref"), fresh()
    if end == "commit":
        store(content, ctx, data, ref=ref)
    else:
        begin(content, ctx, ref, data, total=100)
        content.abort(ctx, ref)

    writer = content.writer(ctx, ref)
    try:
        assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
        assert content.status(ctx, ref).total == 0
    finally:
        writer.close()


@clause("CNT-044")
def test_status_tells_of_an_ingest_while_it_is_written(ctx, content, unique):
    """Rejects: a status that waits for the writer, or stands still."""
    ref = unique("ref")
    writer = content.writer(ctx, ref, total=7)
    try:
        before = content.status(ctx, ref)
        assert (before.ref, before.offset, before.total, before.expected) == (ref, 0, 7, "")
        time.sleep(0.02)  # a store may keep times as coarsely as its file system does
        writer.write(b"z")
        after = content.status(ctx, ref)
        assert after.offset == 1
        assert after.started_at == before.started_at
        assert after.updated_at > before.updated_at
    finally:
        writer.close()


@clause("CNT-044")
def test_the_status_of_an_unknown_ref_is_not_found(ctx, content, unique):
    """Rejects: an empty status for whatever is asked."""
    for ref in (unique("nope"), ""):
        with pytest.raises(NotFound):
            content.status(ctx, ref)


@clause("CNT-045")
def test_ingests_are_listed_by_namespace_and_filtered_by_ref(ctx, content, new_namespace):
    """Rejects: filters that are all needed instead of any, or a field that matches without being there."""
    elsewhere = new_namespace()
    begin(content, elsewhere, "elsewhere", b"")
    for ref in ("up-1", "up-2", "other"):
        begin(content, ctx, ref, b"")

    for filters, expected in {
        (): {"up-1", "up-2", "other"},
        ("ref==up-1",): {"up-1"},
        ("ref~=^up",): {"up-1", "up-2"},
        ("ref!=up-1",): {"up-2", "other"},
        ("ref==up-1", "ref==other"): {"up-1", "other"},
        ("offset==5",): set(),
        ("offset==0",): set(),
    }.items():
        assert {status.ref for status in content.list_statuses(ctx, filters)} == expected, filters


@clause("CNT-045")
@pytest.mark.parametrize("bad", ["bad==", "^up"])
def test_a_filter_of_ingests_that_does_not_parse_is_refused(ctx, content, bad):
    """Rejects: taking a bare regular expression for a filter, and everything for its result."""
    begin(content, ctx, "up-1", b"")
    with pytest.raises(InvalidArgument):
        content.list_statuses(ctx, [bad])


@clause("CNT-046")
def test_an_ingest_is_aborted_once(ctx, content, unique):
    """Rejects: an abort of an unknown ref that reports success."""
    ref = unique("ref")
    begin(content, ctx, ref, b"abc")

    content.abort(ctx, ref)

    with pytest.raises(NotFound):
        content.status(ctx, ref)
    with pytest.raises(NotFound):
        content.abort(ctx, ref)
    with pytest.raises(NotFound):
        content.abort(ctx, "")
    committed = unique("ref")
    store(content, ctx, fresh(), ref=committed)
    with pytest.raises(NotFound):
        content.abort(ctx, committed)


@clause("CNT-047")
def test_aborting_under_a_writer_dooms_its_commit(ctx, content, unique):
    """Rejects: an aborted upload that is committed after all."""
    ref, data = unique("ref"), fresh(9)
    doomed = content.writer(ctx, ref)
    try:
        doomed.write(data[:6])
        content.abort(ctx, ref)
        with pytest.raises(NotFound):
            content.status(ctx, ref)
        with suppress(ContainerdError):  # a write may still be answered
            doomed.write(data[6:])
            with pytest.raises(Unavailable):
                content.writer(ctx, ref)
        with pytest.raises(ContainerdError):
            doomed.commit(ctx, 9)
    finally:
        doomed.close()

    assert not has(content, ctx, digest_of(data))
    writer = content.writer(ctx, ref)
    try:
        assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
    finally:
        writer.close()


@clause("CNT-049")
def test_an_ingest_without_a_lease_outlives_a_collection(unleased, content, collect, unique):
    """Rejects: collections that drop uploads in progress."""
    ref, data = unique("ref"), fresh()
    begin(content, unleased, ref, data)

    # Something to sweep, so that the collection looks at the bytes as well.
    content.delete(unleased, store(content, unleased, fresh(), ROOTED))
    collect(unleased)

    assert content.status(unleased, ref).offset == len(data)
    assert opens_at(content, unleased, ref) == len(data)


@clause("CNT-050")
def test_a_leased_ingest_lives_and_dies_with_its_lease(unleased, content, leases, collect, unique):
    """Rejects: leased ingests that are collected at once, or never."""
    lease = leases.create(unleased, unique("lease"))
    leased = unleased.with_lease(lease.id)
    ref = unique("ref")
    begin(content, leased, ref, b"abc")

    collect(unleased)
    assert content.status(unleased, ref).offset == 3

    leases.delete(unleased, lease.id, sync=True)
    with pytest.raises(NotFound):
        content.status(unleased, ref)
