"""Content, what is on the disk before somebody is told so (CNT-095, CNT-096).

The machine is not switched off: what would be left of it then, the order of a daemon's system calls tells.
"""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from conformance import clause
from conformance.suites._content import digest_of, eventually, fresh
from conformance.suites._monitor import server_of
from conformance.suites._strace import traced
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unavailable

TRACED = {"disk", "strace", "spawn"}

SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
CALLS = (*SYNCS, *RENAMES, "open", "openat", "creat")

STORE, DATABASE = "io.containerd.content.v1.content", "io.containerd.metadata.v1.bolt/meta.db"


@pytest.fixture
def daemon(own):
    """An instance of which nobody else wants anything, and a context in it."""
    instance = own()
    ctx = CallContext(namespace="durable")
    return instance, ctx.with_lease(instance.leases.create(ctx, "kept").id)


def _ended(calls, names, *ends):
    """The places, among all calls, of those whose paths end like this, in this order."""
    return [
        place
        for place, call in enumerate(calls)
        if call.name in names
        and len(call.paths) >= len(ends)
        and all(path.endswith(end) for path, end in zip(call.paths[-len(ends) :], ends, strict=True))
    ]


def _opened_again(instance, ctx, ref):
    """A writer of an upload that another writer has just left: it is free once that one has done its last work."""
    found = []

    def try_it():
        with suppress(Unavailable):
            found.append(instance.content.writer(ctx, ref))
        return bool(found)

    assert eventually(try_it), "the writer that was left keeps its upload"
    return found[0]


@clause("CNT-095", needs=TRACED)
def test_a_commit_is_answered_when_its_bytes_are_on_the_disk(daemon, tmp_path):
    """Rejects: a rename without a sync before it, or an answer before the database was synced."""
    instance, ctx = daemon
    data = fresh()
    writer = instance.content.writer(ctx, "upload", total=len(data))
    writer.write(data)
    with traced(server_of(instance.address), CALLS, tmp_path) as trace:
        writer.commit(ctx, len(data), digest_of(data))
        answered = time.time()
        calls = trace.end()
    writer.close()

    blob = f"{STORE}/blobs/sha256/{digest_of(data).removeprefix('sha256:')}"
    (renamed,) = _ended(calls, RENAMES, "/data", blob)
    source = calls[renamed].paths[-2]
    synced = _ended(calls, SYNCS, source)
    assert synced, f"{source} was renamed and never synced"
    assert min(synced) < renamed
    recorded = [place for place in _ended(calls, SYNCS, DATABASE) if place > renamed]
    assert recorded, "the database knows of a blob, and was not synced"
    # What comes behind it is not of this commit: a collection after the start, say.
    assert calls[recorded[0]].ended <= answered


@clause("CNT-095", needs=TRACED)
def test_the_end_of_a_stream_syncs_what_was_written(daemon, tmp_path):
    """Rejects: an upload whose offset is remembered and whose bytes are not."""
    instance, ctx = daemon
    writer = instance.content.writer(ctx, "upload")
    writer.write(fresh())
    with traced(server_of(instance.address), CALLS, tmp_path) as trace:
        writer.close()
        again = _opened_again(instance, ctx, "upload")
        calls = trace.end()
    again.close()

    assert _ended(calls, SYNCS, "/data")


@clause("CNT-096", needs=TRACED)
def test_the_times_of_an_upload_are_replaced_and_never_rewritten(daemon, tmp_path):
    """Rejects: a file that is cut and written anew in its place, or renamed before its bytes are on the disk."""
    instance, ctx = daemon
    with traced(server_of(instance.address), CALLS, tmp_path) as trace:
        writer = instance.content.writer(ctx, "upload")
        writer.write(fresh())
        writer.close()
        again = _opened_again(instance, ctx, "upload")
        calls = trace.end()
    again.close()

    for name, times in (("startedat", 1), ("updatedat", 2)):
        renamed = _ended(calls, RENAMES, f"/{name}.tmp", f"/{name}")
        assert len(renamed) >= times
        opened = [calls[place] for place in _ended(calls, ("open", "openat", "creat"), f"/{name}")]
        assert not [call for call in opened if call.name == "creat" or "O_RDONLY" not in call.arguments]
        written = [calls[place] for place in _ended(calls, ("open", "openat"), f"/{name}.tmp")]
        synced = _ended(calls, SYNCS, f"/{name}.tmp")
        assert len(synced) >= times or all("SYNC" in call.arguments for call in written)
