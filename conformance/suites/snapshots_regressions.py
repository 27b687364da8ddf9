"""Snapshots: sequences on which two implementations once differed, found at random and made short."""

from __future__ import annotations

import errno

import pytest

from conformance.catalogue import clause
from conformance.suites._snapshots import committed, exists
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.snapshots import Kind


@clause("SNP-036")
@pytest.mark.parametrize(
    "change, arguments",
    [("unlink", ("/none",)), ("rmdir", ("/none",)), ("rename", ("/none", "/other"))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_view_refuses_to_remove_what_it_does_not_have(ctx, snapshotter, mounted, change, arguments):
    """Rejects: a mount that looks for the entry first and says that it is not there, as a writable one would."""
    snapshotter.view(ctx, "v")

    with mounted(snapshotter.mounts(ctx, "v")) as fs, pytest.raises(OSError, match="Read-only") as refused:
        getattr(fs, change)(*arguments)

    assert refused.value.errno == errno.EROFS


@clause("SNP-017")
def test_a_commit_to_a_taken_name_under_a_lease_that_is_gone_changes_nothing(ctx, snapshotter, unique):
    """Rejects: a commit that has replaced one of the two before it finds the other reason to refuse."""
    committed(snapshotter, ctx, "taken", a="1")
    snapshotter.prepare(ctx, "k")
    before = snapshotter.stat(ctx, "taken"), snapshotter.stat(ctx, "k")

    # Which of the two is looked at first is free; 1.6.20 looks at the name.
    with pytest.raises((AlreadyExists, NotFound)):
        snapshotter.commit(ctx.with_lease(unique("gone")), "taken", "k")

    assert (snapshotter.stat(ctx, "taken"), snapshotter.stat(ctx, "k")) == before
    assert snapshotter.stat(ctx, "k").kind is Kind.ACTIVE
    snapshotter.commit(ctx, "free", "k")
    assert not exists(snapshotter, ctx, "k")
