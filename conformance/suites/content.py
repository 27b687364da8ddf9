"""Content, the way in: the messages of a Write stream, and what a commit refuses (CNT-001 to CNT-033).

The life of ingests is in ``content_ingests``, what becomes of committed blobs in ``content_blobs``, sharing, leases and
collections in ``content_sharing``, files, restarts and conventions in ``content_disk``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from conformance import clause
from conformance.suites._content import (
    PATIENCE,
    begin,
    commit,
    digest_of,
    fresh,
    has,
    progress,
    read,
    stat,
    store,
    upload,  # a fixture
    write,
)
from conformance.wire import MAX_MESSAGE
from refimpl.api import content_v1_pb2 as pb
from refimpl.contract.content import EMPTY_DIGEST
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.times import SECOND

YEAR_ONE = -62_135_596_800
"""Seconds of Go's zero time on the wire."""


def _near_now(nanoseconds):
    return abs(time.time_ns() - nanoseconds) < 60 * SECOND


@clause("CNT-001")
@pytest.mark.parametrize("opening", [stat(), write(b"bytes"), commit(b"bytes")], ids=["stat", "write", "commit"])
def test_a_stream_whose_first_message_names_no_ref_is_refused(ctx, content, upload, opening):
    """Rejects: an ingest whose name is the empty string."""
    answer = upload(opening)

    assert (answer.code, list(answer.messages)) == ("INVALID_ARGUMENT", [])
    assert content.list_statuses(ctx) == []
    assert not list(content.walk(ctx))


@clause("CNT-001")
def test_a_writer_without_a_ref_is_refused(ctx, content):
    """Rejects: a store that leaves the look at the ref to the wire."""
    with pytest.raises(InvalidArgument):
        content.writer(ctx, "")
    assert content.list_statuses(ctx) == []


@clause("CNT-002")
def test_a_stream_closed_before_its_first_message_fails_and_leaves_nothing(ctx, content, upload):
    """Rejects: a handler that takes silence for success, or dies of it."""
    answer = upload()

    assert answer.code == "UNKNOWN"
    assert content.list_statuses(ctx) == [], "the daemon goes on serving, and there is no ingest"


@clause("CNT-003")
def test_a_fresh_ingest_is_described_as_empty(ctx, content, unique):
    """Rejects: no digest, or no record, until the first byte arrives."""
    ref = unique("ref")
    writer = content.writer(ctx, ref, total=100)
    try:
        status = writer.status()
        assert (status.offset, status.total, writer.digest()) == (0, 100, EMPTY_DIGEST)
        assert status.started_at == status.updated_at
        assert _near_now(status.started_at)
        assert content.status(ctx, ref).offset == 0, "the opening alone makes the ingest"
    finally:
        writer.close()


@clause("CNT-003")
def test_the_first_answer_describes_an_empty_ingest(upload, unique):
    """Rejects: an answer without digest, or without the total that the client just declared."""
    answer = upload(stat(unique("ref"), total=100)).messages[0]

    assert (answer.action, answer.offset, answer.total, answer.digest) == (pb.STAT, 0, 100, EMPTY_DIGEST)
    assert answer.started_at == answer.updated_at
    assert _near_now(answer.started_at.ToNanoseconds())


@clause("CNT-003")
def test_no_total_is_answered_where_none_was_declared(upload, unique):
    """Rejects: a total made up from what arrived."""
    assert upload(stat(unique("ref"))).messages[0].total == 0


@clause("CNT-004")
def test_stat_neither_appends_nor_checks_the_offset(ctx, content, upload, unique):
    """Rejects: STAT on the code path of WRITE."""
    ref = unique("ref")
    begin(content, ctx, ref, b"123456789")

    answer = upload(stat(ref, offset=3, data=b"zzz"))

    assert answer.ok
    assert (answer.messages[0].offset, answer.messages[0].digest) == (9, digest_of(b"123456789"))
    assert content.status(ctx, ref).offset == 9


@clause("CNT-005")
def test_one_commit_message_stores_a_small_blob(ctx, content, upload, unique):
    """Rejects: a server that wants STAT first."""
    data = fresh(7)

    answer = upload(commit(data, ref=unique("ref")))

    assert answer.ok
    assert (answer.messages[0].action, answer.messages[0].offset) == (pb.COMMIT, 7)
    assert answer.messages[0].digest == digest_of(data)
    assert content.info(ctx, digest_of(data)).size == 7


@clause("CNT-005")
def test_a_stream_may_open_with_a_write(upload, unique):
    """Rejects: a WRITE that is out of sequence without a STAT before it."""
    answer = upload(write(b"abc", ref=unique("ref")))

    assert answer.ok
    assert (answer.messages[0].offset, answer.messages[0].digest) == (3, digest_of(b"abc"))


@clause("CNT-006")
def test_the_ref_of_later_messages_is_ignored(ctx, content, upload, unique):
    """Rejects: routing every message by its own ref."""
    ref, other = unique("ref"), unique("other")

    answer = upload(write(b"abc", ref=ref), write(b"def", offset=3, ref=other))

    assert answer.ok
    assert answer.messages[1].offset == 6
    assert content.status(ctx, ref).offset == 6
    with pytest.raises(NotFound):
        content.status(ctx, other)


@clause("CNT-007")
def test_a_write_is_answered_with_the_new_end_and_the_running_digest(upload, unique):
    """Rejects: the offset at which the write began, or the digest of the last piece alone."""
    answer = upload(write(b"hello ", ref=unique("ref")), write(b"world", offset=6))

    assert [(m.offset, m.digest) for m in answer.messages[:2]] == [
        (6, digest_of(b"hello ")),
        (11, digest_of(b"hello world")),
    ]


@clause("CNT-007")
def test_a_writer_knows_its_offset_and_digest_after_every_write(ctx, content, unique):
    """Rejects: an offset or digest that lags behind."""
    writer = content.writer(ctx, unique("ref"))
    try:
        assert writer.write(b"hello ") == 6
        assert (writer.status().offset, writer.digest()) == (6, digest_of(b"hello "))
        assert writer.write(b"world") == 5
        assert (writer.status().offset, writer.digest()) == (11, digest_of(b"hello world"))
    finally:
        writer.close()


@clause("CNT-008")
@pytest.mark.parametrize("offset", [4, 7], ids=["overlap", "gap"])
@pytest.mark.parametrize("message", [write, commit], ids=["write", "commit"])
def test_a_positive_offset_that_is_not_the_end_is_out_of_range(ctx, content, upload, unique, message, offset):
    """Rejects: appending where the client meant another place."""
    ref = unique("ref")
    begin(content, ctx, ref, b"sixsix")

    answer = upload(message(b"x", offset=offset, ref=ref))

    assert answer.code == "OUT_OF_RANGE"
    assert content.status(ctx, ref).offset == 6, "nothing was written"
    writer = content.writer(ctx, ref)
    try:
        assert (writer.status().offset, writer.digest()) == (6, digest_of(b"sixsix"))
    finally:
        writer.close()


@clause("CNT-009")
def test_a_write_at_offset_0_starts_over(ctx, content, upload, unique):
    """Rejects: reading offset 0 as "not given, so append"."""
    ref = unique("ref")
    begin(content, ctx, ref, b"123456789")

    answer = upload(write(ref=ref))
    assert (answer.messages[0].offset, answer.messages[0].digest) == (0, EMPTY_DIGEST)
    assert content.status(ctx, ref).offset == 0

    begin(content, ctx, ref, b"123456789")
    answer = upload(write(b"ab", ref=ref))
    assert (answer.messages[0].offset, answer.messages[0].digest) == (2, digest_of(b"ab"))


@clause("CNT-009")
def test_a_truncated_ingest_holds_only_what_is_written_afterwards(ctx, content, unique):
    """Rejects: a running digest that still counts the bytes that went."""
    writer = content.writer(ctx, unique("ref"))
    try:
        writer.write(b"123456789")
        writer.truncate(0)
        assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
        data = fresh()
        writer.write(data)
        assert (writer.status().offset, writer.digest()) == (len(data), digest_of(data))
        writer.commit(ctx, len(data), digest_of(data))
    finally:
        writer.close()
    assert read(content, ctx, digest_of(data)) == data


@clause("CNT-010")
def test_a_bare_commit_at_offset_0_commits_nothing_of_what_was_written(ctx, content, upload, unique):
    """Rejects: a COMMIT that looks at no offset and keeps the whole upload."""
    data = fresh()

    answer = upload(write(data, ref=unique("ref")), commit())

    assert answer.ok
    assert answer.messages[1].digest == EMPTY_DIGEST
    assert not has(content, ctx, digest_of(data))


@clause("CNT-010")
def test_a_commit_at_offset_0_fails_against_the_digest_of_what_was_written(ctx, content, upload, unique):
    """Rejects: a check of the digest before the truncation."""
    data = fresh()

    answer = upload(write(data, ref=unique("ref")), commit(expected=digest_of(data)))

    assert answer.code == "FAILED_PRECONDITION"
    assert not has(content, ctx, digest_of(data))


@clause("CNT-011")
def test_a_negative_offset_appends_or_is_refused(ctx, content, upload, unique):
    """Rejects: a negative number that reaches a seek."""
    ref = unique("ref")
    begin(content, ctx, ref, b"abcdef")

    answer = upload(write(b"ghi", offset=-5, ref=ref))

    if answer.ok:
        assert (answer.messages[0].offset, answer.messages[0].digest) == (9, digest_of(b"abcdefghi"))
    else:
        assert answer.code in {"INVALID_ARGUMENT", "OUT_OF_RANGE"}
        assert content.status(ctx, ref).offset == 6


@clause("CNT-012")
def test_an_empty_write_at_the_end_changes_nothing(ctx, content, upload, unique):
    """Rejects: taking empty data for the end of the upload."""
    ref = unique("ref")
    begin(content, ctx, ref, b"123456789")

    answer = upload(write(offset=9, ref=ref), stat())

    assert answer.ok
    assert [(m.offset, m.digest) for m in answer.messages[:2]] == [(9, digest_of(b"123456789"))] * 2
    assert content.status(ctx, ref).offset == 9


@clause("CNT-013")
def test_an_unknown_action_does_not_touch_the_ingest(ctx, content, upload, unique):
    """Rejects: falling through to WRITE."""
    ref = unique("ref")

    answer = upload(write(b"abc", ref=ref), pb.WriteContentRequest(action=7, offset=3, data=b"qq"))  # type: ignore[arg-type]  # no action at all

    assert answer.code in {"OK", "INVALID_ARGUMENT"}
    if answer.ok:
        assert answer.messages[1].action == 7
    assert content.status(ctx, ref).offset == 3


@clause("CNT-014")
def test_every_message_has_one_answer_in_order(upload, unique):
    """Rejects: answers that are merged when requests come faster than they are served."""
    data = fresh(4)

    answer = upload(stat(unique("ref")), write(data[:2]), write(data[2:], offset=2), commit(offset=4, total=4))

    assert answer.ok
    assert progress(answer)[:4] == [(pb.STAT, 0), (pb.WRITE, 2), (pb.WRITE, 4), (pb.COMMIT, 4)]


@clause("CNT-014")
def test_answers_come_while_the_client_may_still_send(upload, unique):
    """Rejects: a server that answers when the client has stopped sending."""
    done = threading.Event()

    def messages():
        yield from (stat(unique("ref")), write(b"ab"), write(b"cd", offset=2))
        done.wait(3 * PATIENCE)

    try:
        answer = upload.stream(messages(), timeout=PATIENCE, limit=3)
    finally:
        done.set()

    assert progress(answer) == [(pb.STAT, 0), (pb.WRITE, 2), (pb.WRITE, 4)], answer.code


@clause("CNT-015")
def test_the_stream_ends_with_its_commit(ctx, content, upload, unique):
    """Rejects: a stream that stays open, so that a later WRITE brings the ingest back."""
    ref, data = unique("ref"), fresh()

    answer = upload(stat(ref), commit(data), write(b"late", ref=ref))

    assert answer.ok
    assert 2 <= len(answer.messages) <= 3
    assert all(message == answer.messages[1] for message in answer.messages[2:]), "only the last answer is repeated"
    assert read(content, ctx, digest_of(data)) == data
    with pytest.raises(NotFound):
        content.status(ctx, ref)


@clause("CNT-015")
def test_a_half_closed_stream_ends_well(upload, unique):
    """Rejects: taking a client that has sent all it wants to send for one that failed."""
    answer = upload(stat(unique("ref")), write(b"abc"))

    assert answer.ok
    assert 2 <= len(answer.messages) <= 3
    assert all(message == answer.messages[1] for message in answer.messages[2:])


@clause("CNT-016")
def test_times_before_the_first_stat_are_unset_or_real(upload, unique):
    """Rejects: a time that is neither, such as the epoch, which clients would show."""
    answer = upload(write(b"abc", ref=unique("ref"))).messages[0]

    for name in ("started_at", "updated_at"):
        moment = getattr(answer, name)
        assert not answer.HasField(name) or moment.seconds == YEAR_ONE or _near_now(moment.ToNanoseconds()), name


@clause("CNT-017")
def test_a_commit_turns_the_ingest_into_a_blob(ctx, content, unique):
    """Rejects: an ingest that stays, or a blob that comes later."""
    ref, data = unique("ref"), fresh(12)
    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        writer.commit(ctx, 12, digest_of(data))
    finally:
        writer.close()

    assert content.info(ctx, digest_of(data)).size == 12
    assert read(content, ctx, digest_of(data)) == data
    with pytest.raises(NotFound):
        content.status(ctx, ref)


@clause("CNT-017")
def test_the_data_of_a_commit_is_part_of_the_blob(ctx, content, upload, unique):
    """Rejects: dropping the data of the COMMIT message."""
    ref, data = unique("ref"), fresh(12)

    answer = upload(write(data[:6], ref=ref), commit(data[6:], offset=6, total=12, expected=digest_of(data)))

    assert answer.ok
    assert (answer.messages[1].offset, answer.messages[1].digest) == (12, digest_of(data))
    assert read(content, ctx, digest_of(data)) == data
    with pytest.raises(NotFound):
        content.status(ctx, ref)


@clause("CNT-018")
def test_content_cannot_be_seen_before_it_is_committed(ctx, content, unique):
    """Rejects: a blob file that has its final name while it is still written."""
    data = fresh()
    writer = content.writer(ctx, unique("ref"), expected=digest_of(data))
    try:
        writer.write(data)
        with pytest.raises(NotFound):
            content.info(ctx, digest_of(data))
        with pytest.raises(NotFound):
            content.reader(ctx, digest_of(data))
        assert list(content.walk(ctx)) == []
    finally:
        writer.close()


@clause("CNT-019")
def test_a_commit_of_another_size_is_refused_and_costs_nothing(ctx, content, unique):
    """Rejects: dropping the ingest, or keeping it locked, when a commit is refused."""
    ref, data = unique("ref"), fresh(18)
    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        with pytest.raises(FailedPrecondition):
            writer.commit(ctx, 3)
    finally:
        writer.close()
    assert not has(content, ctx, digest_of(data))

    again = content.writer(ctx, ref)
    try:
        assert (again.status().offset, again.digest()) == (18, digest_of(data))
        again.commit(ctx, 18)
    finally:
        again.close()
    assert read(content, ctx, digest_of(data)) == data


@clause("CNT-020")
def test_what_the_first_message_declares_binds_a_commit_that_declares_nothing(ctx, content, upload, unique):
    """Rejects: a COMMIT that looks at its own total and expected alone."""
    data = fresh(5)
    declared = {"total": 5, "expected": digest_of(data)}

    assert upload(stat(unique("ref"), **declared), commit(data[:4] + b"\xff" + b"!")).code == "FAILED_PRECONDITION"
    assert upload(stat(unique("ref"), expected=digest_of(data)), commit(fresh(5))).code == "FAILED_PRECONDITION"
    assert upload(stat(unique("ref"), total=5), commit(fresh(6))).code == "FAILED_PRECONDITION"
    assert upload(stat(unique("ref"), **declared), commit(data)).ok
    assert has(content, ctx, digest_of(data))


@clause("CNT-020")
def test_the_last_declaration_is_the_one_that_counts(upload, unique):
    """Rejects: holding a client to a total or digest that it has since corrected."""
    data = fresh(3)

    assert upload(stat(unique("ref"), total=5), commit(data, total=3)).ok
    other = fresh(3)
    assert upload(stat(unique("ref"), expected=digest_of(b"a guess")), commit(other, expected=digest_of(other))).ok


@clause("CNT-021")
def test_only_the_commit_compares_with_the_declared_total(ctx, content, upload, unique):
    """Rejects: a WRITE past the total that fails, for clients that declare a guess."""
    ref = unique("ref")

    answer = upload(stat(ref, total=4), write(fresh(8)), commit(offset=8))

    assert progress(answer)[:2] == [(pb.STAT, 0), (pb.WRITE, 8)]
    assert answer.code == "FAILED_PRECONDITION"
    status = content.status(ctx, ref)
    assert (status.offset, status.total) == (8, 4)


@clause("CNT-022")
def test_a_total_of_0_means_unknown(ctx, content, upload, unique):
    """Rejects: comparing 0 literally, so that uploads of unknown size are all refused."""
    data = fresh(5)

    assert upload(write(data, ref=unique("ref")), commit(offset=5)).ok
    assert content.info(ctx, digest_of(data)).size == 5


@clause("CNT-022")
def test_a_negative_total_is_never_met(upload, unique):
    """Rejects: taking a negative total for none."""
    answer = upload(stat(unique("ref"), total=-5), commit(fresh(3)))

    assert not answer.ok
    assert not [message for message in answer.messages if message.action == pb.COMMIT]


@clause("CNT-022")
def test_a_writer_that_was_told_no_size_commits_any(ctx, content, unique):
    """Rejects: the same mistake in the store."""
    data = fresh(5)
    writer = content.writer(ctx, unique("ref"))
    try:
        writer.write(data)
        writer.commit(ctx)
    finally:
        writer.close()
    assert content.info(ctx, digest_of(data)).size == 5


@clause("CNT-023")
def test_a_commit_of_another_digest_is_refused_and_costs_nothing(ctx, content, unique):
    """Rejects: storing bytes under the digest that the client claimed."""
    ref, data, claimed = unique("ref"), fresh(18), digest_of(fresh())
    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        with pytest.raises(FailedPrecondition):
            writer.commit(ctx, 18, claimed)
    finally:
        writer.close()

    assert not has(content, ctx, claimed)
    assert not has(content, ctx, digest_of(data))
    again = content.writer(ctx, ref)
    try:
        assert (again.status().offset, again.digest()) == (18, digest_of(data)), "the ingest can be resumed"
    finally:
        again.close()


@clause("CNT-024")
@pytest.mark.parametrize(
    "bad",
    ["foo", "sha256:zz", "sha256:" + 64 * "A", "md5:" + 32 * "a", "sha256:" + 63 * "a"],
    ids=["no-algorithm", "no-hex", "upper-case", "md5", "short"],
)
def test_an_expectation_that_is_no_digest_is_never_met(ctx, content, upload, unique, bad):
    """Rejects: taking an unparsable digest for no expectation."""
    data = fresh()

    opened = upload(stat(unique("ref"), expected=bad))
    assert opened.code in {"OK", "INVALID_ARGUMENT"}
    answer = upload(stat(unique("ref"), expected=bad), commit(data))

    assert answer.code in {"FAILED_PRECONDITION", "INVALID_ARGUMENT"}
    assert not has(content, ctx, digest_of(data))


@clause("CNT-025")
def test_an_upload_of_what_the_namespace_has_is_refused_at_the_opening(ctx, content, blob, unique):
    """Rejects: having the client send everything before it is told."""
    ref, data = unique("ref"), fresh()
    digest = blob(data)

    with pytest.raises(AlreadyExists):
        content.writer(ctx, ref, expected=digest)

    with pytest.raises(NotFound):
        content.status(ctx, ref)
    assert content.list_statuses(ctx) == []


@clause("CNT-026")
def test_content_found_to_exist_in_the_middle_of_a_stream_ends_it_and_drops_the_ingest(
    ctx, content, blob, upload, unique
):
    """Rejects: leaking the half-written ingest with its lock."""
    ref, digest = unique("ref"), blob(fresh())

    answer = upload(stat(ref), write(b"ab"), write(b"cd", offset=2, expected=digest))

    assert answer.code == "ALREADY_EXISTS"
    with pytest.raises(NotFound):
        content.status(ctx, ref)
    writer = content.writer(ctx, ref)
    try:
        assert writer.status().offset == 0
    finally:
        writer.close()


@clause("CNT-027")
def test_a_commit_of_what_is_there_consumes_the_ingest_and_changes_nothing(ctx, content, unique):
    """Rejects: a duplicate commit that overwrites the labels or times of the record."""
    ref, data = unique("ref"), fresh()
    digest = store(content, ctx, data)
    before = content.info(ctx, digest)

    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        with pytest.raises(AlreadyExists):
            writer.commit(ctx, len(data), labels={"x": "y"})
    finally:
        writer.close()

    assert content.info(ctx, digest) == before
    with pytest.raises(NotFound):
        content.status(ctx, ref)


@clause("CNT-028")
def test_labels_come_from_the_commit_alone(ctx, content, upload, unique):
    """Rejects: labels of all messages that add up."""
    data, other = fresh(), fresh()

    assert upload(stat(unique("ref"), labels={"s": "1"}), write(data, labels={"w": "1"}), commit(offset=len(data))).ok
    assert upload(
        stat(unique("ref"), labels={"s": "1"}), write(other), commit(offset=len(other), labels={"a": "1", "empty": ""})
    ).ok

    assert content.info(ctx, digest_of(data)).labels == {}
    assert content.info(ctx, digest_of(other)).labels == {"a": "1"}


@clause("CNT-029")
def test_a_label_that_is_too_long_does_not_cost_the_upload(ctx, content, unique):
    """Rejects: looking at the labels after the bytes have moved."""
    ref, data, key = unique("ref"), fresh(), 100 * "k"
    writer = content.writer(ctx, ref)
    try:
        writer.write(data)
        with pytest.raises(InvalidArgument):
            writer.commit(ctx, len(data), labels={key: 3997 * "v"})
    finally:
        writer.close()
    assert content.status(ctx, ref).offset == len(data)
    assert not has(content, ctx, digest_of(data))

    again = content.writer(ctx, ref)
    try:
        assert again.digest() == digest_of(data)
        again.commit(ctx, len(data), labels={key: 3996 * "v"})
    finally:
        again.close()
    assert content.info(ctx, digest_of(data)).labels == {key: 3996 * "v"}


@clause("CNT-030")
def test_the_empty_blob_can_be_stored_and_read(ctx, content, unique):
    """Rejects: refusing a size of 0 as "nothing written"."""
    with suppress(NotFound):
        content.delete(ctx, EMPTY_DIGEST)  # a store without namespaces may have it from elsewhere
    writer = content.writer(ctx, unique("ref"))
    try:
        writer.commit(ctx)
    finally:
        writer.close()

    assert content.info(ctx, EMPTY_DIGEST).size == 0
    reader = content.reader(ctx, EMPTY_DIGEST)
    try:
        assert (reader.size, reader.read_at(0, 10)) == (0, b"")
    finally:
        reader.close()


@clause("CNT-031")
def test_the_running_digest_is_sha256_whatever_is_expected(ctx, content, unique):
    """Rejects: a digest that changes its algorithm with the expectation."""
    data = fresh()
    writer = content.writer(ctx, unique("ref"), expected=digest_of(data, "sha512"))
    try:
        assert writer.digest() == EMPTY_DIGEST
        writer.write(data)
        assert writer.digest() == digest_of(data)
    finally:
        writer.close()


@clause("CNT-031")
def test_content_without_expectation_is_stored_under_its_sha256(ctx, content, unique):
    """Rejects: a store of its own taste."""
    data = fresh()
    writer = content.writer(ctx, unique("ref"))
    try:
        writer.write(data)
        writer.commit(ctx)
    finally:
        writer.close()
    assert read(content, ctx, digest_of(data)) == data


@clause("CNT-032")
@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("declared", ["at the opening", "at the commit"])
def test_content_of_another_algorithm_is_stored_under_it_or_not_at_all(ctx, content, unique, algorithm, declared):
    """Rejects: bytes stored under sha256 while the client is told another digest."""
    data = fresh()
    digest = digest_of(data, algorithm)
    with pytest.raises(NotFound):  # and not InvalidArgument
        content.info(ctx, digest)
    writer = content.writer(ctx, unique("ref"), expected=digest if declared == "at the opening" else "")
    try:
        writer.write(data)
        try:
            writer.commit(ctx, len(data), digest)
        except FailedPrecondition:
            assert not has(content, ctx, digest)
            return
    finally:
        writer.close()
    assert content.info(ctx, digest).size == len(data)
    assert read(content, ctx, digest) == data


@clause("CNT-033")
def test_one_message_carries_nearly_16_mib(upload, unique):
    """Rejects: the gRPC library's own limit of 4 MiB."""
    data = bytes(MAX_MESSAGE - 1000)

    answer = upload(write(data, ref=unique("ref")))

    assert answer.code == "OK"
    assert answer.messages[0].offset == len(data)


@clause("CNT-033")
def test_a_message_of_more_than_16_mib_is_refused(upload, unique):
    """Rejects: no limit, so that one client can take all the memory."""
    assert upload(write(bytes(MAX_MESSAGE + 1000), ref=unique("ref"))).code == "RESOURCE_EXHAUSTED"


@clause("CNT-033")
def test_a_blob_may_be_larger_than_a_message(ctx, content, upload, unique):
    """Rejects: a blob that is bounded by what one message carries."""
    step, steps = 4 << 20, 5
    pieces = [fresh(16) + bytes(step - 16) for _ in range(steps)]
    digest = digest_of(b"".join(pieces))

    answer = upload(
        stat(unique("ref")),
        *(write(piece, offset=i * step) for i, piece in enumerate(pieces)),
        commit(offset=steps * step, total=steps * step, expected=digest),
    )

    assert answer.ok, answer.message
    assert content.info(ctx, digest).size == steps * step > MAX_MESSAGE
