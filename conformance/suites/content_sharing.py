"""Content between namespaces, under leases, and before the collector (CNT-076 to CNT-092)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._content import (
    ROOTED,
    SERVICE,
    begin,
    commit,
    digest_of,
    fresh,
    has,
    read,
    stat,
    store,
    upload,  # a fixture
    write,
)
from conformance.wire import Wire
from refimpl.api import content_v1_pb2 as pb
from refimpl.contract.content import EMPTY_DIGEST, Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
)
from refimpl.contract.leases import Resource
from refimpl.contract.namespaces import Namespace

POLICY = """version = 2
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "{}"
"""

EXPIRE = "containerd.io/gc.expire"
FLAT = "containerd.io/gc.flat"


@pytest.fixture
def foreign(content, new_namespace):
    """2000 bytes that only another namespace has: its context, the bytes, their digest."""
    owner, data = new_namespace(), fresh(2000)
    return owner, data, store(content, owner, data, {"l": "owner"})


@clause("CNT-076")
def test_who_knows_a_digest_takes_the_content_without_sending_it(ctx, content, foreign, unique):
    """Rejects: sharing that also copies labels or times of the other namespace, or shows the blob too early."""
    owner, data, digest = foreign
    writer = content.writer(ctx, unique("ref"), expected=digest)
    try:
        assert (writer.status().offset, writer.digest()) == (2000, digest)
        with pytest.raises(NotFound):
            content.info(ctx, digest)
        writer.commit(ctx, 2000, digest, {"l": "b"})
    finally:
        writer.close()

    info = content.info(ctx, digest)
    assert (info.size, info.labels) == (2000, {"l": "b"})
    assert info.created_at > content.info(owner, digest).created_at, "the time of this commit"
    assert read(content, ctx, digest) == data
    assert content.info(owner, digest).labels == {"l": "owner"}


@clause("CNT-076")
def test_a_shared_upload_of_the_right_size_needs_no_labels_to_share(ctx, content, foreign, unique):
    """Rejects: sharing only with those who declare no total, and labels that come along."""
    _, _, digest = foreign
    writer = content.writer(ctx, unique("ref"), total=2000, expected=digest)
    try:
        assert writer.status().offset == 2000
        writer.commit(ctx, 2000, digest)
    finally:
        writer.close()
    assert content.info(ctx, digest).labels == {}


@clause("CNT-077")
def test_nothing_is_shared_with_who_declares_another_size(ctx, content, foreign, unique):
    """Rejects: handing content over to somebody who has not shown to know it."""
    _, _, digest = foreign
    writer = content.writer(ctx, unique("ref"), total=7, expected=digest)
    try:
        status = writer.status()
        assert (status.offset, status.total, writer.digest()) == (0, 7, EMPTY_DIGEST)
    finally:
        writer.close()
    assert not has(content, ctx, digest)


@clause("CNT-078")
def test_aborting_a_shared_upload_does_no_harm_to_the_owner(ctx, content, collect, foreign, unique):
    """Rejects: an abort that takes the other namespace's blob away."""
    owner, data, digest = foreign
    ref = unique("ref")
    content.writer(ctx, ref, expected=digest).close()

    try:
        assert content.status(ctx, ref).offset == 2000
    except NotFound:
        assert content.list_statuses(ctx) == []
    content.abort(ctx, ref)
    collect(ctx)

    assert read(content, owner, digest) == data
    with pytest.raises(NotFound):
        content.abort(ctx, ref)


@clause("CNT-079")
def test_the_commit_of_a_shared_upload_is_checked(ctx, content, foreign, unique):
    """Rejects: leaving the checks out because the bytes are known to be good."""
    _, _, digest = foreign
    ref = unique("ref")

    for size, expected in ((2000, digest_of(fresh())), (5, digest), (5, "")):
        writer = content.writer(ctx, ref, expected=digest)
        try:
            assert writer.status().offset == 2000, "it can be opened again"
            with pytest.raises(FailedPrecondition):
                writer.commit(ctx, size, expected)
        finally:
            writer.close()
        assert not has(content, ctx, digest)


@clause("CNT-080")
def test_what_is_appended_to_a_shared_upload_goes_to_a_private_copy(ctx, content, foreign, unique):
    """Rejects: an append to the other namespace's file."""
    owner, data, digest = foreign
    longer = data + b"more"
    writer = content.writer(ctx, unique("ref"), expected=digest)
    try:
        writer.write(b"more")
        assert (writer.status().offset, writer.digest()) == (2004, digest_of(longer))
        writer.commit(ctx, 2004, digest_of(longer))
    finally:
        writer.close()

    assert content.info(ctx, digest_of(longer)).size == 2004
    assert read(content, ctx, digest_of(longer)) == longer
    assert read(content, owner, digest) == data
    assert not has(content, ctx, digest)


@clause("CNT-080")
def test_a_shared_upload_that_starts_over_has_nothing(ctx, content, foreign, upload, unique):
    """Rejects: a truncation that leaves the shared bytes in place."""
    owner, data, digest = foreign
    ref = unique("ref")

    answer = upload(stat(ref, expected=digest, total=2000), commit())

    assert answer.messages[0].offset == 2000
    assert answer.code == "FAILED_PRECONDITION"
    assert content.status(ctx, ref).offset == 0
    assert not has(content, ctx, digest)
    other = upload(write(b"ab", ref=unique("ref"), expected=digest))
    assert (other.messages[0].offset, other.messages[0].digest) == (2, digest_of(b"ab"))
    assert read(content, owner, digest) == data


@clause("CNT-081")
def test_uploading_what_another_namespace_has_succeeds(ctx, content, namespaces, foreign, unique):
    """Rejects: the back end's AlreadyExists that reaches the second namespace."""
    owner, data, digest = foreign
    writer = content.writer(ctx, unique("ref"))
    try:
        writer.write(data)
        writer.commit(ctx)
    finally:
        writer.close()

    assert content.info(ctx, digest).size == 2000
    assert read(content, ctx, digest) == data == read(content, owner, digest)


@clause("CNT-081", needs={"disk"})
def test_what_two_namespaces_have_is_kept_once(ctx, content, namespaces, foreign, subject):
    """Rejects: a copy for each namespace."""
    _, data, digest = foreign
    store(content, ctx, data)

    hexadecimal = digest.removeprefix("sha256:")
    files = [file for file in subject.root.rglob(f"*{hexadecimal}*") if file.is_file()]
    assert [file.stat().st_size for file in files] == [2000]


@pytest.fixture
def isolated(own):
    """An instance whose namespaces share nothing, the owner of 500 bytes in it, and a second namespace."""
    instance = own(config=POLICY.format("isolated"))
    owner, other = CallContext(namespace="owner"), CallContext(namespace="other")
    data = fresh(500)
    return instance, owner, other, data, store(instance.content, owner, data, ROOTED)


@clause("CNT-082")
def test_under_the_isolated_policy_a_namespace_sends_the_bytes_itself(isolated):
    """Rejects: a policy that hides the record while a known digest still grants the content."""
    instance, owner, other, data, digest = isolated
    content = instance.content

    writer = content.writer(other, "claim", total=500, expected=digest)
    try:
        assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
        with pytest.raises(FailedPrecondition):
            writer.commit(other, 500, digest)
    finally:
        writer.close()
    assert not has(content, other, digest)

    store(content, other, data, ROOTED)
    assert read(content, other, digest) == data == read(content, owner, digest)


@clause("CNT-083")
def test_an_unknown_sharing_policy_disables_the_store(own, wire):
    """Rejects: an unknown value that falls back to sharing."""
    instance = own(config=POLICY.format("bogus"))
    raw = Wire(instance.address)
    try:
        answer = raw.call(f"{SERVICE}/List", pb.ListContentRequest(), namespace="conform")
    finally:
        raw.close()

    assert answer.code == "UNIMPLEMENTED"
    plugins = {plugin.uri: plugin for plugin in instance.introspection.plugins(CallContext())}
    error = plugins["io.containerd.metadata.v1.bolt"].init_err
    assert error is not None
    assert "unknown policy" in error.message
    assert "bogus" in error.message


@clause("CNT-084")
def test_under_the_isolated_policy_the_owner_may_offer_its_content(isolated):
    """Rejects: asking the reading namespace for the label instead of the owner."""
    instance, owner, other, _, digest = isolated
    shareable = {"containerd.io/namespace.shareable": "true"}

    def offset(ref):
        writer = instance.content.writer(other, ref, total=500, expected=digest)
        try:
            return writer.status().offset
        finally:
            writer.close()

    instance.namespaces.create(other, Namespace(other.namespace, shareable))
    assert offset("label on the reader") == 0
    instance.namespaces.update(owner, Namespace(owner.namespace, shareable))
    if offset("label on the owner") == 0:
        pytest.skip("1.6 does not know the label containerd.io/namespace.shareable")
    assert offset("again") == 500


@clause("CNT-085")
def test_bytes_live_while_another_namespace_has_them(unleased, content, collect, new_namespace):
    """Rejects: counting the references of the deleting namespace alone."""
    data, other = fresh(), new_namespace()
    digest = store(content, unleased, data, ROOTED)
    store(content, other, data)

    content.delete(unleased, digest)
    collect(unleased)

    assert read(content, other, digest) == data
    assert not has(content, unleased, digest)


@clause("CNT-085")
def test_a_shared_upload_keeps_its_bytes_after_the_last_owner(unleased, content, collect, new_namespace, unique):
    """Rejects: a sweep that does not know of uploads which stand for a blob."""
    data, owner = fresh(), new_namespace()
    digest = store(content, owner, data)
    writer = content.writer(unleased, unique("ref"), expected=digest)
    try:
        content.delete(owner, digest)
        collect(owner)
        writer.commit(unleased, len(data), digest, ROOTED)
    finally:
        writer.close()

    assert read(content, unleased, digest) == data


@clause("CNT-086")
def test_a_lease_holds_the_ingest_and_then_the_content(unleased, content, leases, collect, unique):
    """Rejects: an entry for the ingest that stays after the commit."""
    lease, ref, data = leases.create(unleased, unique("lease")).id, unique("ref"), fresh()
    ctx = unleased.with_lease(lease)

    writer = content.writer(ctx, ref)
    try:
        assert leases.list_resources(unleased, lease) == [Resource(ref, "ingests")]
        writer.write(data)
        writer.commit(ctx, len(data))
    finally:
        writer.close()
    assert leases.list_resources(unleased, lease) == [Resource(digest_of(data), "content")]

    collect(unleased)
    assert has(content, unleased, digest_of(data))
    leases.delete(unleased, lease, sync=True)
    assert not has(content, unleased, digest_of(data))


@clause("CNT-086")
def test_an_aborted_ingest_leaves_its_lease(unleased, content, leases, unique):
    """Rejects: entries for ingests that are long gone."""
    lease, ref = leases.create(unleased, unique("lease")).id, unique("ref")
    ctx = unleased.with_lease(lease)
    begin(content, ctx, ref, b"abc")
    assert leases.list_resources(unleased, lease) == [Resource(ref, "ingests")]

    content.abort(ctx, ref)

    assert leases.list_resources(unleased, lease) == []


@clause("CNT-087")
@pytest.mark.parametrize("moment", ["opening", "commit"])
def test_content_that_exists_is_leased_all_the_same(unleased, content, leases, unique, moment):
    """Rejects: an entry in the lease that is rolled back with the error."""
    data = fresh()
    digest = store(content, unleased, data, ROOTED)
    lease, ref = leases.create(unleased, unique("lease")).id, unique("ref")
    ctx = unleased.with_lease(lease)

    if moment == "opening":
        with pytest.raises(AlreadyExists):
            content.writer(ctx, ref, expected=digest)
    else:
        writer = content.writer(ctx, ref)
        try:
            writer.write(data)
            with pytest.raises(AlreadyExists):
                writer.commit(ctx, len(data))
        finally:
            writer.close()

    assert leases.list_resources(unleased, lease) == [Resource(digest, "content")]


@clause("CNT-087")
def test_content_named_by_a_later_message_is_not_leased(unleased, content, leases, upload, unique):
    """Rejects: a client that learns from this server to declare late, and loses its content on another."""
    digest = store(content, unleased, fresh(), ROOTED)
    lease = leases.create(unleased, unique("lease")).id

    answer = upload(stat(unique("ref")), write(b"ab", expected=digest), ctx=unleased.with_lease(lease))

    assert answer.code == "ALREADY_EXISTS"
    assert leases.list_resources(unleased, lease) == []


@clause("CNT-088")
def test_a_write_under_an_unknown_lease_is_not_found(unleased, content, unique):
    """Rejects: ignoring the lease, so that the content is collected under the client's feet."""
    existing = store(content, unleased, fresh(), ROOTED)
    ctx, ref = unleased.with_lease(unique("no-lease")), unique("ref")

    with pytest.raises(NotFound):
        content.writer(ctx, ref)
    with pytest.raises(NotFound):
        content.writer(ctx, ref, expected=existing)

    with pytest.raises(NotFound):
        content.status(unleased, ref)
    assert content.list_statuses(unleased) == []


@clause("CNT-089")
def test_a_deletion_leaves_the_lease_of_its_caller(unleased, content, leases, collect, unique):
    """Rejects: a dangling entry that makes the next collection fail."""
    first, second = (leases.create(unleased, unique("lease")).id for _ in range(2))
    mine = store(content, unleased.with_lease(first), fresh())
    theirs = store(content, unleased.with_lease(second), fresh())

    content.delete(unleased.with_lease(first), mine)
    assert leases.list_resources(unleased, first) == []
    content.delete(unleased, theirs)

    garbage = store(content, unleased, fresh())
    collect(unleased)
    assert [has(content, unleased, digest) for digest in (mine, theirs, garbage)] == [False] * 3
    assert set(leases.list_resources(unleased, second)) <= {Resource(theirs, "content")}


@clause("CNT-090")
def test_content_that_nothing_refers_to_is_garbage(unleased, content, collect):
    """Rejects: content that is never collected."""
    unheld, rooted = store(content, unleased, fresh()), store(content, unleased, fresh(), ROOTED)

    collect(unleased)
    assert not has(content, unleased, unheld)
    assert has(content, unleased, rooted)

    content.update(unleased, Info(rooted, labels={}), ["labels"])
    collect(unleased)
    assert not has(content, unleased, rooted)


@clause("CNT-091")
def test_labels_of_live_content_keep_other_content(unleased, content, collect):
    """Rejects: any label that begins like a reference, or one level of references only."""

    def put(labels):
        return store(content, ctx, fresh(), labels)

    ref = "containerd.io/gc.ref.content"
    # Under construction nothing is referred to yet: a rooted scaffold first, the roots go afterwards.
    ctx = unleased
    leaf, leaf2, leaf3 = put(ROOTED), put(ROOTED), put(ROOTED)
    mid = put({**ROOTED, f"{ref}.x": leaf, ref: leaf2})
    under = put({**ROOTED, f"{ref}x": leaf3})
    slash = put(ROOTED)
    absent = digest_of(fresh())
    root = put({**ROOTED, f"{ref}.0": mid, f"{ref}.l.1": under, f"{ref}/slash": slash, f"{ref}.absent": absent})
    for digest in (leaf, leaf2, leaf3, mid, under, slash):
        content.update(ctx, Info(digest), ["labels.containerd.io/gc.root"])

    collect(ctx)
    assert [has(content, ctx, digest) for digest in (root, mid, leaf, leaf2, under, slash)] == [True] * 6
    assert not has(content, ctx, leaf3)

    content.update(ctx, Info(root), ["labels.containerd.io/gc.root"])
    collect(ctx)
    assert list(content.walk(ctx)) == []


@clause("CNT-091")
def test_content_that_only_refers_to_itself_in_a_circle_is_garbage(unleased, content, collect):
    """Rejects: counting references instead of following them from the roots."""
    data, other = fresh(), fresh()
    ref = "containerd.io/gc.ref.content.0"
    store(content, unleased, data, {**ROOTED, ref: digest_of(other)})
    store(content, unleased, other, {ref: digest_of(data)})

    content.update(unleased, Info(digest_of(data)), ["labels.containerd.io/gc.root"])
    collect(unleased)

    assert not has(content, unleased, digest_of(data))
    assert not has(content, unleased, digest_of(other))


@clause("CNT-091")
def test_references_end_at_the_namespace(unleased, content, collect, new_namespace):
    """Rejects: a label that keeps another namespace's content alive."""
    other = new_namespace(lease=False)
    digest = store(content, other, fresh(), ROOTED)
    store(content, unleased, fresh(), {**ROOTED, "containerd.io/gc.ref.content.0": digest})

    content.update(other, Info(digest), ["labels.containerd.io/gc.root"])
    collect(other)

    assert not has(content, other, digest)


@clause("CNT-092")
def test_a_flat_lease_keeps_its_content_and_not_what_that_refers_to(unleased, content, leases, collect, unique):
    """Rejects: following references from a lease that asked not to."""
    target = store(content, unleased, fresh(), ROOTED)
    followed = store(content, unleased, fresh(), ROOTED)
    flat = leases.create(unleased, unique("flat"), {FLAT: "1"}).id
    full = leases.create(unleased, unique("full")).id
    held = store(content, unleased.with_lease(flat), fresh(), {"containerd.io/gc.ref.content.0": target})
    store(content, unleased.with_lease(full), fresh(), {"containerd.io/gc.ref.content.0": followed})
    for digest in (target, followed):
        content.update(unleased, Info(digest), ["labels.containerd.io/gc.root"])

    collect(unleased)

    assert has(content, unleased, held)
    assert not has(content, unleased, target)
    assert has(content, unleased, followed), "a lease that is not flat follows references"


@clause("CNT-092")
def test_an_expired_lease_keeps_nothing(unleased, content, leases, collect, unique):
    """Rejects: a date that nobody looks at."""
    held = store(content, unleased, fresh(), ROOTED)
    kept = store(content, unleased, fresh(), ROOTED)
    past = leases.create(unleased, unique("past"), {EXPIRE: "2001-01-01T00:00:00Z"}).id
    future = leases.create(unleased, unique("future"), {EXPIRE: "2101-01-01T00:00:00Z"}).id
    leases.add_resource(unleased, past, Resource(held, "content"))
    leases.add_resource(unleased, future, Resource(kept, "content"))
    for digest in (held, kept):
        content.update(unleased, Info(digest), ["labels.containerd.io/gc.root"])

    collect(unleased)

    assert not has(content, unleased, held)
    assert has(content, unleased, kept)
