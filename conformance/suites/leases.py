"""Leases as records: creating, listing, deleting, and the entries on their lists (LEA-001 to 018, 029, 037 to 041)."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections import Counter

import pytest

from conformance import clause
from conformance.suites._content import ROOTED, digest_of, eventually, fresh, has, store
from conformance.suites._gc import (
    EXPIRE,
    NEVER,
    PLAIN,
    by_id,
    hours,
    listening,
    scheduler,
    settle,
    together,
)
from conformance.suites._snapshots import at_once, outcome
from conformance.wire import Wire
from refimpl.api import containers_v1_pb2, images_v1_pb2
from refimpl.api import leases_v1_pb2 as pb
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.leases import Resource

SERVICE = "containerd.services.leases.v1.Leases"


@pytest.fixture
def lease(unleased, leases):
    """The id of a lease without labels and entries."""
    return leases.create(unleased, "l1").id


def listed(leases, ctx, *filters):
    """The ids that List answers with, in its order; the check's own first lease is left out."""
    return [found.id for found in leases.list(ctx, filters)]


@clause("LEA-001")
def test_a_lease_is_made_under_the_given_id(new_namespace, leases):
    """Rejects: an empty label that is stored, a time that is not set, an answer that List does not confirm."""
    ctx = new_namespace(lease=False)
    before = time.time_ns()
    made = leases.create(ctx, "l1", {"a": "1", "e": ""})
    after = time.time_ns()

    assert (made.id, made.labels) == ("l1", {"a": "1"})
    assert before <= made.created_at <= after, "the server's current time"
    assert leases.list(ctx) == [made]


@clause("LEA-002")
def test_the_server_draws_an_id_for_who_names_none(new_namespace, leases):
    """Rejects: a lease with an empty id, and ids that repeat."""
    ctx = new_namespace(lease=False)
    drawn = [leases.create(ctx).id for _ in range(100)]

    assert "" not in drawn
    assert len(set(drawn)) == 100
    assert sorted(drawn) == listed(leases, ctx)


@clause("LEA-002")
def test_drawn_ids_are_a_number_and_four_characters(new_namespace, leases):
    """Rejects: ids of a form that no containerd has, with characters that a header cannot carry."""
    ctx = new_namespace(lease=False)

    for id in [leases.create(ctx).id for _ in range(10)]:
        assert re.fullmatch(r"[0-9]{1,9}-[A-Za-z0-9_-]{4}", id), id


@clause("LEA-002", needs={"restart"})
def test_drawn_ids_do_not_repeat_after_a_restart(own):
    """Rejects: a counter in memory."""
    instance = own()
    before = {instance.leases.create(PLAIN).id for _ in range(5)}
    instance.restart()

    after = {instance.leases.create(PLAIN).id for _ in range(5)}

    assert not before & after
    assert before | after == set(by_id(instance.leases, PLAIN))


@clause("LEA-003")
def test_an_id_that_is_taken_is_refused(unleased, leases, unique):
    """Rejects: a second creation that replaces labels or empties the list of resources."""
    entry = Resource(unique("ref"), "ingests")
    first = leases.create(unleased, "l1", {"a": "1"})
    leases.add_resource(unleased, "l1", entry)

    with pytest.raises(AlreadyExists):
        leases.create(unleased, "l1", {"z": "1"})

    assert by_id(leases, unleased)["l1"] == first
    assert leases.list_resources(unleased, "l1") == [entry]


@clause("LEA-003")
def test_of_many_who_create_one_id_one_succeeds(unleased, leases):
    """Rejects: looking for the id in one transaction and writing it in another."""
    outcomes = at_once([lambda: leases.create(unleased, "conc")] * 16)

    assert Counter(outcomes) == {"ok": 1, "AlreadyExists": 15}


@clause("LEA-004")
@pytest.mark.parametrize(
    "id", ["a/b", "../x", "a b", "-x", "x" * 200, "x" * 40000, "zw\u00f6lf\n"], ids=lambda id: ascii(id[:8])
)
def test_any_lease_id_works_or_is_refused(unleased, leases, id):
    """Rejects: an id that is stored and can neither be listed nor deleted."""
    try:
        made = leases.create(unleased, id)
    except InvalidArgument:
        assert id not in by_id(leases, unleased)
        return
    assert made.id == id
    assert id in by_id(leases, unleased)
    leases.delete(unleased, id)
    assert id not in by_id(leases, unleased)


@clause("LEA-004", needs={"disk"})
def test_a_lease_id_is_no_path(unleased, leases, subject, unique):
    """Rejects: a file that is named after the lease."""
    name = unique("escaped")
    for id in (name, f"../{name}", f"../../{name}"):
        try:
            leases.create(unleased, id)
        except InvalidArgument:
            continue

    assert list(subject.root.parent.rglob(f"*{name}*")) == []


@clause("LEA-005")
def test_lease_labels_are_kept_whole_or_refused(unleased, leases):
    """Rejects: a value that is cut to the limit of other labels."""
    leases.create(unleased, "ok", {"k": "v" * 4095})
    with contextlib.suppress(InvalidArgument):
        leases.create(unleased, "big", {"k": "v" * 5000})
    with pytest.raises((Unknown, InvalidArgument)):
        leases.create(unleased, "ek", {"": "v"})

    found = by_id(leases, unleased)
    assert found["ok"].labels == {"k": "v" * 4095}
    assert "big" not in found or found["big"].labels == {"k": "v" * 5000}
    assert "ek" not in found


@clause("LEA-006")
def test_leases_are_listed_in_byte_order(new_namespace, leases):
    """Rejects: the order of creation, or one that takes numbers for numbers and ignores case."""
    ctx = new_namespace(lease=False)
    for id in ("Z", "a", "10", "9"):
        leases.create(ctx, id)

    assert listed(leases, ctx) == ["10", "9", "Z", "a"]


@clause("LEA-006")
@pytest.mark.parametrize(
    "filters, expected",
    [
        ([], "fa fb fc"),
        (["id==fa"], "fa"),
        (["id~=f[ab]"], "fa fb"),
        (['id~="f[ab]"'], "fa fb"),
        (["labels.env"], "fa fb"),
        (["labels.env==q"], "fb"),
        (['labels."x.y"==1'], "fa"),
        (["id==fa", "id==fc"], "fa fc"),
        (["id~=f[ab],labels.env==p"], "fa"),
        (["nosuch"], ""),
        (["nosuch!=1"], "fa fb fc"),
        (["id!=fa"], "fb fc"),
    ],
    ids=lambda value: " or ".join(value) or "none" if isinstance(value, list) else "",
)
def test_filters_choose_leases(new_namespace, leases, filters, expected):
    """Rejects: several filters that all have to hold, and unknown fields that match."""
    ctx = new_namespace(lease=False)
    for id, labels in (("fa", {"env": "p", "x.y": "1"}), ("fb", {"env": "q"}), ("fc", {})):
        leases.create(ctx, id, labels)

    assert listed(leases, ctx, *filters) == expected.split()


@clause("LEA-006")
@pytest.mark.parametrize("text", ["bad!", "id=x"])
def test_a_filter_that_does_not_parse_is_refused(unleased, leases, text):
    """Rejects: a bad filter that matches nothing or everything."""
    with pytest.raises(InvalidArgument):
        leases.list(unleased, [text])


@clause("LEA-006")
def test_a_namespace_that_nobody_used_has_no_leases(leases, unique):
    """Rejects: NotFound for a namespace without leases."""
    assert leases.list(CallContext(namespace=unique("unused"))) == []


@clause("LEA-006")
def test_an_expired_lease_is_listed_until_it_is_collected(own):
    """Rejects: a list that hides what the collector has not taken yet."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    instance.leases.create(PLAIN, "past", {EXPIRE: hours(-1)})

    assert listed(instance.leases, PLAIN) == ["past"]
    settle(instance)
    assert listed(instance.leases, PLAIN) == []


@clause("LEA-007")
def test_a_deleted_lease_is_gone_with_its_list(unleased, leases, lease, unique):
    """Rejects: entries that a later lease of the same id inherits."""
    leases.add_resource(unleased, lease, Resource(unique("ref"), "ingests"))

    leases.delete(unleased, lease)

    assert lease not in by_id(leases, unleased)
    with pytest.raises(NotFound):
        leases.list_resources(unleased, lease)
    with pytest.raises(NotFound):
        leases.delete(unleased, lease)
    leases.create(unleased, lease)
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-007")
def test_deleting_an_unknown_lease_is_not_found(unleased, leases, namespaces, unique):
    """Rejects: success for what was never there, and a namespace that comes about by a refused call."""
    unused = CallContext(namespace=unique("unused"))

    for ctx, id in ((unleased, "nope"), (unleased, ""), (unused, "x")):
        for sync in (False, True):
            with pytest.raises(NotFound):
                leases.delete(ctx, id, sync=sync)

    assert unused.namespace not in {found.name for found in namespaces.list(unused)}


@clause("LEA-008")
def test_after_a_synchronous_delete_nothing_is_left(unleased, leases, content):
    """Rejects: a delete that only triggers the collection and answers."""
    for number in range(15):
        id = leases.create(unleased, f"sy{number}").id
        digest = store(content, unleased.with_lease(id), fresh())

        leases.delete(unleased, id, sync=True)

        assert not has(content, unleased, digest), f"round {number}"


@clause("LEA-008", needs={"disk"})
def test_after_a_synchronous_delete_the_bytes_are_gone(unleased, leases, content, subject):
    """Rejects: an answer between the records and the back ends."""
    for number in range(10):
        id = leases.create(unleased, f"sy{number}").id
        digest = store(content, unleased.with_lease(id), fresh())

        leases.delete(unleased, id, sync=True)

        assert list(subject.root.rglob(digest.removeprefix("sha256:"))) == [], f"round {number}"


@clause("LEA-009")
def test_a_plain_delete_leads_to_a_collection(unleased, leases, content, collect):
    """Rejects: a deletion that needs a further change before anything is collected."""
    id = leases.create(unleased, "as").id
    digest = store(content, unleased.with_lease(id), fresh())
    # A deletion must not meet the end of a collection: 1.6 forgets it then, until the next change (GC-032).
    collect(unleased)

    leases.delete(unleased, id)

    assert eventually(lambda: not has(content, unleased, digest))


@clause("LEA-009")
def test_a_plain_delete_does_not_wait_for_the_collection(own):
    """Rejects: a delete that is always synchronous."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    instance.leases.create(PLAIN, "as")
    digest = store(instance.content, PLAIN.with_lease("as"), fresh())

    instance.leases.delete(PLAIN, "as")

    assert has(instance.content, PLAIN, digest), "the next interval is minutes away"
    settle(instance)
    assert not has(instance.content, PLAIN, digest)


@clause("LEA-010")
def test_a_caller_out_of_patience_has_deleted_the_lease_all_the_same(own):
    """Rejects: a deletion that is rolled back with the deadline."""
    instance = own(config=scheduler(pause_threshold=NEVER, schedule_delay="2s"))
    settle(instance)
    instance.leases.create(PLAIN, "dl")
    digest = store(instance.content, PLAIN.with_lease("dl"), fresh())
    hasty = CallContext(namespace=PLAIN.namespace, deadline=time.monotonic() + 1)

    with pytest.raises(DeadlineExceeded):
        instance.leases.delete(hasty, "dl", sync=True)

    assert listed(instance.leases, PLAIN) == []
    assert eventually(lambda: not has(instance.content, PLAIN, digest)), "the collection still happens"


DIGEST = digest_of(b"nobody stores this")
SHA512 = "sha512:" + 128 * "a"


@clause("LEA-011")
def test_content_ingests_and_snapshots_can_be_leased(unleased, leases, lease, snapshotter_id):
    """Rejects: a type that is missing."""
    entries = [Resource(DIGEST, "content"), Resource("ref-1", "ingests"), Resource("k1", f"snapshots/{snapshotter_id}")]
    for entry in entries:
        leases.add_resource(unleased, lease, entry)

    assert leases.list_resources(unleased, lease) == entries


@clause("LEA-011")
@pytest.mark.parametrize("type", ["containers", "tasks", "leases", "labels", "createdat", "Content", ""])
def test_other_types_of_resources_are_unknown(unleased, leases, lease, type):
    """Rejects: a type that is taken for the name of a bucket, so that labels and times can be overwritten."""
    before = by_id(leases, unleased)[lease]
    for call in (leases.add_resource, leases.delete_resource):
        with pytest.raises(Unimplemented):
            call(unleased, lease, Resource("x", type))

    assert leases.list_resources(unleased, lease) == []
    assert by_id(leases, unleased)[lease] == before


@clause("LEA-011")
@pytest.mark.parametrize(
    "type, id",
    [("content/x", DIGEST), ("ingests/x", "r"), ("snapshots", "k"), ("snapshots/native/x", "k")],
    ids=lambda text: text if "/" in text else "",
)
def test_types_of_the_wrong_form_are_refused(unleased, leases, lease, type, id):
    """Rejects: what follows a type's name being cut off."""
    for call in (leases.add_resource, leases.delete_resource):
        with pytest.raises(InvalidArgument):
            call(unleased, lease, Resource(id, type))
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-011")
def test_images_are_a_type_of_the_next_release(unleased, leases, lease):
    """Rejects: an implementation between the releases: images that can be leased, with any form of the type."""
    named = Resource("docker.io/x", "images")
    later = outcome(lambda: leases.add_resource(unleased, lease, named))
    assert later in {"Unimplemented", "ok"}
    refusal = outcome(lambda: leases.add_resource(unleased, lease, Resource("a", "images/x")))

    assert refusal == ("InvalidArgument" if later == "ok" else "Unimplemented")
    assert leases.list_resources(unleased, lease) == ([named] if later == "ok" else [])


@clause("LEA-012")
@pytest.mark.parametrize(
    "id", ["foo", "sha256:xyz", "", f"md5:{32 * 'a'}", f"sha256:{64 * 'A'}", f"sha256:{63 * 'a'}", "zz"]
)
def test_leased_content_is_named_by_a_digest(unleased, leases, lease, id):
    """Rejects: an entry for content of any name."""
    for call in (leases.add_resource, leases.delete_resource):
        with pytest.raises(InvalidArgument):
            call(unleased, lease, Resource(id, "content"))
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-012")
@pytest.mark.parametrize("algorithm, length", [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_digests_of_all_known_algorithms_can_be_leased(unleased, leases, lease, algorithm, length):
    """Rejects: sha256 alone."""
    entry = Resource(f"{algorithm}:{length * 'a'}", "content")
    leases.add_resource(unleased, lease, entry)
    assert leases.list_resources(unleased, lease) == [entry]
    leases.delete_resource(unleased, lease, entry)
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-013")
@pytest.mark.parametrize("type, id", [("ingests", ""), ("snapshots/native", ""), ("snapshots/", "k")])
def test_an_entry_has_a_name(unleased, leases, lease, type, id):
    """Rejects: an entry with an empty id, or of a snapshotter without name."""
    with pytest.raises((Unknown, InvalidArgument)):
        leases.add_resource(unleased, lease, Resource(id, type))
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-014")
def test_what_is_leased_need_not_exist(unleased, leases, content, collect, lease, snapshotter_id):
    """Rejects: NotFound for an absent resource, and a collection that drops or trips over dangling entries."""
    data = fresh()
    entries = [
        Resource(digest_of(data), "content"),
        Resource("nope", f"snapshots/{snapshotter_id}"),
        Resource("nope", "snapshots/zzz"),
    ]
    for entry in entries:
        leases.add_resource(unleased, lease, entry)

    collect(unleased)
    assert leases.list_resources(unleased, lease) == entries

    # Rooted until it is known to be there: an entry must not be needed between the calls of the check itself.
    digest = store(content, unleased, data, ROOTED)
    content.update(unleased, Info(digest, labels={}), ["labels"])
    collect(unleased)
    assert has(content, unleased, digest), "the entry takes effect when its resource appears"


@clause("LEA-015")
def test_adding_and_removing_can_be_repeated(unleased, leases, lease):
    """Rejects: AlreadyExists or NotFound for a repetition, and entries that are counted."""
    entry = Resource(DIGEST, "content")
    leases.add_resource(unleased, lease, entry)
    leases.add_resource(unleased, lease, entry)
    assert leases.list_resources(unleased, lease) == [entry]

    leases.delete_resource(unleased, lease, entry)
    assert leases.list_resources(unleased, lease) == []
    for absent in (entry, Resource("nope", "ingests"), Resource("nope", "snapshots/zzz")):
        leases.delete_resource(unleased, lease, absent)
    assert leases.list_resources(unleased, lease) == []


@clause("LEA-015")
def test_entries_added_at_the_same_time_are_all_kept(unleased, leases, lease):
    """Rejects: reading the list in one transaction and writing it in another."""
    entries = [Resource(f"r{number}", "ingests") for number in range(32)]

    together(functools.partial(leases.add_resource, unleased, lease, entry) for entry in entries)

    assert sorted(leases.list_resources(unleased, lease), key=lambda e: int(e.id[1:])) == entries


@clause("LEA-016")
def test_the_list_of_an_unknown_lease_is_not_found(unleased, leases, lease, new_namespace):
    """Rejects: a lease that comes about by its first entry, and a bad resource that is looked at before the lease."""
    for call in (leases.add_resource, leases.delete_resource):
        for entry in (Resource(DIGEST, "content"), Resource(DIGEST, "bogus"), Resource("zz", "content")):
            with pytest.raises(NotFound):
                call(unleased, "nope", entry)
    for ctx, id in ((unleased, "nope"), (new_namespace(lease=False), lease)):
        with pytest.raises(NotFound):
            leases.list_resources(ctx, id)
    assert "nope" not in by_id(leases, unleased)


@clause("LEA-017")
def test_entries_are_listed_by_type_and_name(unleased, leases, lease):
    """Rejects: the order of addition, and snapshots without their snapshotter."""
    wanted = [
        Resource(DIGEST, "content"),
        Resource(SHA512, "content"),
        Resource("docker.io/x", "images"),
        Resource("ref-1", "ingests"),
        Resource("ref-10", "ingests"),
        Resource("ref-2", "ingests"),
        Resource("k1", "snapshots/native"),
        Resource("k0", "snapshots/nosuch"),
    ]
    for entry in reversed(wanted):
        try:
            leases.add_resource(unleased, lease, entry)
        except Unimplemented:
            assert entry.type == "images", "only images are a type of the next release"
            wanted.remove(entry)

    assert leases.list_resources(unleased, lease) == wanted


@clause("LEA-018")
def test_what_is_taken_off_a_lease_is_collected_soon(unleased, leases, content, collect, lease):
    """Rejects: a removal that does not count as a deletion."""
    digest = store(content, unleased.with_lease(lease), fresh())
    # As above: nothing else may be under way.
    collect(unleased)

    leases.delete_resource(unleased, lease, Resource(digest, "content"))

    assert eventually(lambda: not has(content, unleased, digest))


@clause("LEA-029")
@pytest.mark.parametrize(
    "text", ["tomorrow", "1700000000", "2001-01-01 00:00:00Z", "2001-01-01T00:00:00", "2001-01-01"]
)
def test_an_expiry_that_cannot_be_read_is_none(unleased, leases, content, collect, text):
    """Rejects: a bad value taken for a time that has passed, so that data are lost."""
    leases.create(unleased, "unreadable", {EXPIRE: text})
    digest = store(content, unleased.with_lease("unreadable"), fresh())

    collect(unleased)

    assert by_id(leases, unleased)["unreadable"].labels == {EXPIRE: text}
    assert has(content, unleased, digest)


@clause("LEA-037")
def test_leases_belong_to_a_namespace(unleased, leases, new_namespace):
    """Rejects: one table for everybody."""
    other = new_namespace(lease=False)
    mine, theirs = leases.create(unleased, "l", {"whose": "mine"}), leases.create(other, "l", {"whose": "theirs"})
    leases.create(other, "there only")
    leases.add_resource(unleased, "l", Resource("r", "ingests"))

    assert by_id(leases, unleased)["l"] == mine
    assert leases.list(other) == [theirs, by_id(leases, other)["there only"]]
    assert leases.list_resources(other, "l") == []
    with pytest.raises(NotFound):
        leases.list_resources(unleased, "there only")
    leases.delete(other, "l")
    assert by_id(leases, unleased)["l"] == mine


@clause("LEA-037")
def test_lease_calls_need_a_namespace(leases):
    """Rejects: a default namespace, and names that are not looked at."""
    nobody, entry = CallContext(), Resource("r", "ingests")
    for call in (
        lambda ctx: leases.create(ctx, "l"),
        leases.list,
        lambda ctx: leases.delete(ctx, "l"),
        lambda ctx: leases.add_resource(ctx, "l", entry),
        lambda ctx: leases.delete_resource(ctx, "l", entry),
        lambda ctx: leases.list_resources(ctx, "l"),
    ):
        with pytest.raises(FailedPrecondition):
            call(nobody)
        with pytest.raises(InvalidArgument):
            call(CallContext(namespace="b/d"))


@clause("LEA-038")
def test_no_event_tells_of_leases(unleased, leases, events, collect, unique):
    """Rejects: /leases/create and the like."""
    with listening(events, unleased) as heard:
        leases.create(unleased, "l1")
        leases.create(unleased, "past", {EXPIRE: hours(-1)})
        leases.list(unleased)
        leases.add_resource(unleased, "l1", Resource(DIGEST, "content"))
        leases.delete_resource(unleased, "l1", Resource(DIGEST, "content"))
        leases.delete(unleased, "l1", sync=True)
        assert set(by_id(leases, unleased)) & {"l1", "past"} == set()
        assert heard.topics() == {}


@clause("LEA-039", needs={"restart"})
def test_leases_survive_a_restart(own):
    """Rejects: leases in memory, or a list that is not written."""
    instance = own()
    instance.leases.create(PLAIN, "keep", {"a": "1"})
    for number in range(32):
        instance.leases.add_resource(PLAIN, "keep", Resource(f"r{number}", "ingests"))
    before = instance.leases.list(PLAIN), instance.leases.list_resources(PLAIN, "keep")
    assert len(before[1]) == 32

    instance.restart()

    assert (instance.leases.list(PLAIN), instance.leases.list_resources(PLAIN, "keep")) == before


@clause("LEA-039", needs={"kill"})
def test_an_acknowledged_lease_survives_a_kill(own):
    """Rejects: a creation that is answered before it is on the disk."""
    instance = own()
    made = instance.leases.create(PLAIN, "k9")
    instance.restart(kill=True)
    assert instance.leases.list(PLAIN) == [made]


@clause("LEA-040", needs={"config", "wire"})
def test_a_request_without_a_resource_is_refused(own):
    """Rejects: a daemon that dies of an absent message. Asked of an instance of the check's own: 2.x does."""
    instance = own()
    instance.leases.create(PLAIN, "l1")
    raw = Wire(instance.address)
    try:
        for method, request in (
            ("AddResource", pb.AddResourceRequest(id="l1")),
            ("DeleteResource", pb.DeleteResourceRequest(id="l1")),
        ):
            answer = raw.call(f"{SERVICE}/{method}", request, namespace=PLAIN.namespace)
            assert answer.code in {"UNIMPLEMENTED", "INVALID_ARGUMENT"}, f"{method}: {answer.code} {answer.message}"
            assert raw.call(f"{SERVICE}/List", pb.ListRequest(), namespace=PLAIN.namespace).ok, "it lives"
    finally:
        raw.close()


@clause("LEA-041", needs={"config", "wire"})
def test_without_the_collector_there_are_no_leases_and_no_images(own):
    """Rejects: a daemon that does not start, and services that would fail at the first synchronous deletion."""
    disabled = '["io.containerd.gc.v1.scheduler", "io.containerd.grpc.v1.cri"]'
    instance = own(config=f"version = 2\ndisabled_plugins = {disabled}\n")
    raw = Wire(instance.address)
    try:
        codes = {
            method: raw.call(method, request, namespace=PLAIN.namespace).code
            for method, request in (
                (f"{SERVICE}/List", pb.ListRequest()),
                ("containerd.services.images.v1.Images/List", images_v1_pb2.ListImagesRequest()),
                ("containerd.services.containers.v1.Containers/List", containers_v1_pb2.ListContainersRequest()),
            )
        }
    finally:
        raw.close()
    assert list(codes.values()) == ["UNIMPLEMENTED", "UNIMPLEMENTED", "OK"]
