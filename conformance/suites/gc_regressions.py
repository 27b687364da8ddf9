"""Garbage collection: sequences on which two implementations once differed, found at random and made short."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from conformance.catalogue import clause
from conformance.suites._content import ROOTED, fresh, has, store
from conformance.suites._gc import drop


@clause("GC-027", needs={"gc", "leases"})
def test_an_upload_that_is_opened_again_still_protects_what_it_expected_first(
    ctx, content, collect, drop, unique, new_namespace
):
    """Rejects: a second opening, without a digest, that takes back what the first one had announced."""
    plain, ref, data = ctx.with_lease(""), unique("ref"), fresh()
    digest = store(content, new_namespace(), data, ROOTED)
    content.writer(plain, ref, expected=digest).close()
    store(content, ctx, data)
    content.writer(plain, ref).close()

    drop()
    assert has(content, plain, digest), "the upload expects it"

    content.abort(plain, ref)
    collect(plain)
    assert not has(content, plain, digest), "nothing else held it"
