"""What is left of garbage behind the records: bytes, ingests, snapshots, and what others see of it (GC-019 to 048)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager

import grpc
import pytest

from conformance import clause
from conformance.suites._content import ROOTED, begin, digest_of, fresh, has, read, store
from conformance.suites._gc import (
    PLAIN,
    QUIET,
    REF_CONTENT,
    SOON,
    WATCHED,
    committed,
    container,
    drop,
    eventually,
    exists,
    exposed,
    image,
    settle,
    together,
    under,
    watched,
)
from refimpl.contract.content import Info
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.leases import Resource

BLOBS = "io.containerd.content.v1.content/blobs/sha256"
INGESTS = "io.containerd.content.v1.content/ingest"


def refs(content, ctx):
    """The refs of all ingests of the namespace."""
    return {status.ref for status in content.list_statuses(ctx)}


# ---- shared bytes


@clause("GC-019")
def test_bytes_live_until_the_last_namespace_lets_go(new_namespace, content, leases, collect):
    """Rejects: bytes that go with the first record."""
    first, second, data = new_namespace(), new_namespace(), fresh()
    digest = store(content, first, data)
    store(content, second, data)
    root = store(content, second, fresh(), {**ROOTED, f"{REF_CONTENT}.0": digest})

    leases.delete(first, first.lease, sync=True)
    assert not has(content, first, digest)
    assert read(content, second, digest) == data

    leases.delete(second, second.lease, sync=True)
    assert read(content, second, digest) == data, "referred to by a root"

    content.delete(second.with_lease(""), root)
    collect(second.with_lease(""))
    assert not has(content, second, digest)


@clause("GC-019", needs={"disk"})
def test_the_file_goes_with_the_last_record(new_namespace, content, leases, subject):
    """Rejects: a file for each namespace, and one that nobody removes."""
    first, second, data = new_namespace(), new_namespace(), fresh()
    digest = store(content, first, data)
    store(content, second, data)

    def files():
        return len(list(subject.root.rglob(digest.removeprefix("sha256:"))))

    assert files() == 1
    leases.delete(first, first.lease, sync=True)
    assert files() == 1
    leases.delete(second, second.lease, sync=True)
    assert files() == 0


@clause("GC-019")
def test_bytes_live_while_an_open_ingest_expects_them(new_namespace, content, leases):
    """Rejects: a sweep that does not know of uploads which stand for a blob."""
    first, second, data = new_namespace(), new_namespace(), fresh()
    digest = store(content, first, data)
    writer = content.writer(second, f"ref-{uuid.uuid4().hex}", expected=digest)
    try:
        if writer.status().offset != len(data):
            pytest.skip("this daemon does not share content between namespaces")
        leases.delete(first, first.lease, sync=True)
        assert not has(content, first, digest)
        writer.commit(second, len(data), digest)
    finally:
        writer.close()
    assert read(content, second, digest) == data


# ---- ingests


@clause("GC-027")
def test_an_unfinished_ingest_is_held_by_its_expiry_or_a_lease(ctx, unleased, content, collect, drop):
    """Rejects: aborting every open ingest at each collection, keeping one that nothing holds."""
    begin(content, unleased, "ia", b"a")
    begin(content, ctx, "ib", b"bb")
    collect(unleased)
    assert refs(content, unleased) == {"ia", "ib"}

    drop()
    assert refs(content, unleased) == {"ia"}
    with pytest.raises(NotFound):
        content.status(unleased, "ib")
    for _ in range(3):
        collect(unleased)
    assert refs(content, unleased) == {"ia"}
    assert content.status(unleased, "ia").offset == 1


@clause("GC-027")
def test_an_ingest_holds_the_blob_that_it_expects(new_namespace, unleased, content, drop):
    """Rejects: a root that is not followed because it is an ingest."""
    owner, data = new_namespace(), fresh()
    digest = store(content, owner, data)
    # A shared upload remembers what it expects.
    shared = content.writer(unleased, "expects", expected=digest)
    try:
        if shared.status().offset != len(data):
            pytest.skip("this daemon does not share content between namespaces")
    finally:
        shared.close()
    # The same bytes come into the namespace another way, and nothing else holds them.
    store(content, unleased, data, ROOTED)
    content.update(unleased, Info(digest, labels={}), ["labels"])

    drop()

    assert read(content, unleased, digest) == data


@clause("GC-027", needs={"config", "disk"})
def test_the_data_of_an_ingest_go_with_it(own):
    """Rejects: a directory that nobody removes."""
    instance = own()
    content, leases = instance.content, instance.leases
    store(content, PLAIN, fresh(), ROOTED)
    begin(content, PLAIN, "ia", b"a")
    leases.create(PLAIN, "setup")
    begin(content, PLAIN.with_lease("setup"), "ib", b"b")
    assert len(list((instance.root / INGESTS).iterdir())) == 2

    leases.delete(PLAIN, "setup", sync=True)

    assert len(list((instance.root / INGESTS).iterdir())) == 1
    assert refs(content, PLAIN) == {"ia"}


@clause("GC-028", needs={"config", "disk"})
def test_ingests_on_an_empty_root_are_cleaned_in_the_end(own):
    """Rejects: data that are never cleaned."""
    instance = own()
    content, leases = instance.content, instance.leases
    leases.create(PLAIN, "first")
    begin(content, PLAIN.with_lease("first"), "ref", b"abc")
    leases.delete(PLAIN, "first", sync=True)
    assert content.list_statuses(PLAIN) == []
    # Its data may stay for now: 1.6 stumbles over the missing directory of blobs.

    leases.create(PLAIN, "second")
    store(content, PLAIN.with_lease("second"), fresh())
    leases.delete(PLAIN, "second", sync=True)

    assert list((instance.root / INGESTS).iterdir()) == []


# ---- orphans


@clause("GC-029", needs={"config", "disk", "restart"})
def test_orphans_go_when_something_was_removed_beside_them(own):
    """Rejects: a walk of the whole store at every collection, and orphans that nobody ever looks for."""
    instance = own()
    data = fresh()
    orphan = instance.root / BLOBS / digest_of(data).removeprefix("sha256:")
    store(instance.content, PLAIN, fresh(), ROOTED)
    settle(instance)
    orphan.write_bytes(data)
    settle(instance)
    assert orphan.exists(), "nothing was removed from the content store"

    snapshotter = instance.snapshotter(instance.snapshotters[0])
    snapshotter.prepare(PLAIN, "unheld")
    instance.restart()
    assert eventually(lambda: not exists(instance.snapshotter(instance.snapshotters[0]), PLAIN, "unheld"))
    assert orphan.exists(), "the collection after the start removed a snapshot and no content"

    canary = exposed(instance)
    settle(instance)
    assert not canary.alive
    assert not orphan.exists()


# ---- what others see


@contextmanager
def going_on(call):
    """A call on a thread of its own, which is over at the end of the block."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(SOON)
    assert not thread.is_alive(), "the call hangs"


@clause("GC-039")
def test_an_image_s_content_goes_in_one_step(new_namespace, content, images):
    """Rejects: records that go one by one."""
    for number in range(8):
        ctx = new_namespace(lease=False)
        made = [store(content, ctx, fresh(), ROOTED) for _ in range(4)]
        references = {f"{REF_CONTENT}.{n}": digest for n, digest in enumerate(made)}
        made.append(store(content, ctx, fresh(), {**ROOTED, **references}))
        images.create(ctx, image("i", made[-1]))
        for digest in made:
            content.update(ctx, Info(digest), ["labels.containerd.io/gc.root"])

        with going_on(lambda ctx=ctx: images.delete(ctx, "i", sync=True)) as remover:
            seen = set()
            while remover.is_alive():
                seen.add(len(list(content.walk(ctx))))
        assert seen <= {0, 5}, f"round {number}"
        assert list(content.walk(ctx)) == []


@clause("GC-039")
def test_records_go_before_their_data(new_namespace, content, leases):
    """Rejects: files that are deleted while there are records of them."""
    for number in range(8):
        ctx, data = new_namespace(), fresh()
        digest = store(content, ctx, data)
        with going_on(lambda ctx=ctx: leases.delete(ctx.with_lease(""), ctx.lease, sync=True)) as remover:
            while remover.is_alive():
                try:
                    assert read(content, ctx, digest) == data
                except NotFound:
                    assert not has(content, ctx, digest), f"round {number}: a record without its data"
        assert not has(content, ctx, digest)


@clause("GC-039", needs={"disk"})
def test_there_is_no_record_without_its_file(new_namespace, content, leases, subject):
    """Rejects: files that are deleted while there are records of them."""
    for number in range(8):
        ctx = new_namespace()
        digest = store(content, ctx, fresh())
        (file,) = subject.root.rglob(digest.removeprefix("sha256:"))
        with going_on(lambda ctx=ctx: leases.delete(ctx.with_lease(""), ctx.lease, sync=True)) as remover:
            while remover.is_alive():
                assert file.exists() or not has(content, ctx, digest), f"round {number}: a record without its file"
        assert not file.exists()


CYCLE_SECONDS = 0.8
"""How long clients work against permanent collections."""


@clause("GC-041")
def test_leased_work_is_safe_while_collections_run(unleased, content, leases, snapshotter, collect):
    """Rejects: a mark whose result is swept after somebody else wrote."""
    end = time.monotonic() + CYCLE_SECONDS
    cycles = []

    def leased():
        return unleased.with_lease(leases.create(unleased, f"cycle-{uuid.uuid4().hex[:8]}").id)

    def work():
        again = fresh()
        while time.monotonic() < end:
            held, key, data = leased(), f"key-{uuid.uuid4().hex[:8]}", fresh()
            # What this client let go of a moment ago, and what is new.
            kept = {obtained(content, leases, held, again): again, store(content, held, data): data}
            snapshotter.prepare(held, key)
            for digest, expected in [*kept.items()] * 3:
                assert read(content, unleased, digest) == expected
                snapshotter.stat(unleased, key)
            leases.delete(unleased, held.lease)
            cycles.append(key)

    def collections():
        while time.monotonic() < end:
            collect(unleased)

    together([work] * 4 + [collections])

    assert cycles
    collect(unleased)
    assert list(content.walk(unleased)) == []
    assert list(snapshotter.walk(unleased)) == []
    assert content.list_statuses(unleased) == []


def obtained(content, leases, held, data):
    """A blob that is there already, or is uploaded.

    The entry on the lease comes first: that a blob exists is no promise by itself, and AlreadyExists from a stream is
    one only if the blob was there before the stream (CNT-087).
    """
    digest = digest_of(data)
    leases.add_resource(held.with_lease(""), held.lease, Resource(digest, "content"))
    if has(content, held, digest):
        return digest
    try:
        writer = content.writer(held, f"obtain-{uuid.uuid4().hex}", total=len(data), expected=digest)
    except AlreadyExists:
        return digest
    try:
        # The store may have the bytes, though nobody has a record of them any more.
        if rest := data[writer.status().offset :]:
            writer.write(rest)
        writer.commit(held, len(data), digest)
    except AlreadyExists:
        pass
    finally:
        writer.close()
    return digest


# ---- snapshotters of somebody else


def abandoned(instance, *keys):
    """Make a lease that holds these active snapshots."""
    snapshotter = instance.snapshotter(WATCHED)
    instance.leases.create(PLAIN, "setup")
    for key in keys:
        snapshotter.prepare(PLAIN.with_lease("setup"), key)


@clause("GC-042")
def test_others_read_and_write_while_a_back_end_is_cleaned(own, watched):
    """Rejects: one lock for the whole collection."""
    slow, config = watched
    instance = own(config=config)
    settle(instance)
    abandoned(instance, "s")
    slow.slow.clear()
    prepared = threading.Event()

    def prepare():
        instance.snapshotter(WATCHED).prepare(PLAIN, "other", labels=ROOTED)
        prepared.set()

    with going_on(lambda: instance.leases.delete(PLAIN, "setup", sync=True)) as remover:
        try:
            assert slow.removing.wait(SOON)
            instance.containers.create(PLAIN, container("c"))
            assert [found.id for found in instance.containers.list(PLAIN)] == ["c"]
            digest = store(instance.content, PLAIN, fresh(), ROOTED)
            assert has(instance.content, PLAIN, digest)
            assert remover.is_alive(), "all this went on during the cleaning"
            with going_on(prepare):
                try:
                    assert not prepared.wait(QUIET), "work in the store that is being cleaned waits"
                finally:
                    slow.slow.set()
        finally:
            slow.slow.set()
    assert prepared.is_set()


@clause("GC-043")
def test_a_snapshot_that_is_not_given_up_does_not_stop_the_rest(own, watched):
    """Rejects: a deletion that fails because a back end refuses, and snapshots that are not tried again."""
    stubborn, config = watched
    instance = own(config=config)
    settle(instance)
    abandoned(instance, "first", "second", "third")
    stubborn.refuses = {"/second": grpc.StatusCode.FAILED_PRECONDITION}

    instance.leases.delete(PLAIN, "setup", sync=True)
    assert stubborn.keys == ["second"]
    assert list(instance.snapshotter(WATCHED).walk(PLAIN)) == []

    stubborn.refuses = {}
    abandoned(instance, "fourth")
    instance.leases.delete(PLAIN, "setup", sync=True)
    assert stubborn.keys == []


@clause("GC-043", "GC-048")
def test_another_error_ends_the_cleaning_and_not_the_collection(own, watched):
    """Rejects: a deletion that fails because a back end does, a broken back end that is asked for every snapshot."""
    broken, config = watched
    instance = own(config=config)
    settle(instance)
    abandoned(instance, "first", "second", "third")
    broken.refuses = {"": grpc.StatusCode.INTERNAL}
    broken.calls.clear()

    instance.leases.delete(PLAIN, "setup", sync=True)

    assert [call.partition(" ")[0] for call in broken.calls] == ["List", "Remove"]


@clause("GC-048")
def test_a_back_end_is_told_of_each_removal_and_of_the_end(own, watched):
    """Rejects: parents before their children, cleaning up without a removal, calls after the answer."""
    recording, config = watched
    instance = own(config=config)
    settle(instance)
    snapshotter = instance.snapshotter(WATCHED)
    instance.leases.create(PLAIN, "setup")
    held = PLAIN.with_lease("setup")
    committed(snapshotter, held, "Q")
    snapshotter.prepare(held, "r", "Q")
    recording.calls.clear()

    instance.leases.delete(PLAIN, "setup", sync=True)

    first, *removals, last = list(recording.calls)
    assert (first, last) == ("List", "Cleanup")
    names = [call.removeprefix("Remove ").split("/") for call in removals]
    assert [(namespace, key) for namespace, _, key in names] == [(PLAIN.namespace, "r"), (PLAIN.namespace, "Q")]
    assert all(number.isdecimal() for _, number, _ in names)

    recording.calls.clear()
    exposed(instance)
    settle(instance)
    assert recording.calls == [], "only content was removed"
