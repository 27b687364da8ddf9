"""Content: sequences on which two implementations once differed, found at random and made short (CNT-111 to 113)."""

from __future__ import annotations

import pytest

from conformance.catalogue import clause
from conformance.suites._content import ROOTED, begin, digest_of, fresh, has, read, store
from refimpl.contract.content import EMPTY_DIGEST
from refimpl.contract.errors import ContainerdError, FailedPrecondition, NotFound


@clause("CNT-111")
def test_an_upload_that_was_started_over_and_left_is_never_taken_for_another(ctx, content, unique):
    """Rejects: a commit that is accepted because the first bytes are the expected ones."""
    ref, old, new = unique("ref"), fresh(9), fresh(4)
    mix = new + old[len(new) :]
    begin(content, ctx, ref, old, total=10)
    begin(content, ctx, ref, new, total=20)

    again = content.writer(ctx, ref, total=20)
    try:
        offset, digest = again.status().offset, again.digest()
        assert (offset, digest) in {(len(new), digest_of(new)), (len(mix), digest_of(mix))}
        try:
            again.commit(ctx, offset, digest_of(new))
        except FailedPrecondition:
            assert digest == digest_of(mix), "the upload holds exactly what was expected"
            assert not has(content, ctx, digest_of(new))
        else:
            assert read(content, ctx, digest_of(new)) == new
    finally:
        again.close()
    assert not has(content, ctx, digest_of(mix))


@clause("CNT-112")
def test_what_an_aborted_shared_upload_leaves_is_shown_or_nothing_is_left(ctx, content, unique, new_namespace):
    """Rejects: an upload that says it is empty and commits old bytes in front of its own."""
    elsewhere, ref = new_namespace(), unique("ref")
    theirs, ours = fresh(9), fresh(4)
    theirs_digest = store(content, elsewhere, theirs, ROOTED)
    upload = content.writer(ctx, ref, expected=theirs_digest)
    try:
        upload.write(ours)
    finally:
        upload.close()
    content.abort(ctx, ref)
    with pytest.raises(NotFound):
        content.status(ctx, ref)

    again = content.writer(ctx, ref)
    try:
        offset, digest = again.status().offset, again.digest()
        assert (offset, digest) in {(0, EMPTY_DIGEST), (13, digest_of(theirs + ours))}
        again.write(ours)
        held = (theirs + ours if offset else b"") + ours
        assert again.digest() == digest_of(held)
        with pytest.raises(FailedPrecondition):
            again.commit(ctx, 0, digest_of(ours + theirs))
    finally:
        again.close()
    assert read(content, elsewhere, theirs_digest) == theirs


@clause("CNT-113")
def test_an_aborted_upload_is_refused_or_committed_with_all_its_bytes(ctx, content, unique, new_namespace):
    """Rejects: a commit that succeeds and leaves a record with no bytes behind it."""
    ref, data = unique("ref"), fresh()
    digest = store(content, new_namespace(), data, ROOTED)
    upload = content.writer(ctx, ref)
    try:
        upload.write(data)
        content.abort(ctx, ref)
        try:
            upload.commit(ctx, len(data))
        except ContainerdError:
            assert not has(content, ctx, digest)
        else:
            assert read(content, ctx, digest) == data
    finally:
        upload.close()
    with pytest.raises(NotFound):
        content.status(ctx, ref)
