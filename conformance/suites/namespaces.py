"""Namespaces: their records, their events, and the header by which every other call names one.

Labels and updates come before deletion; what calls of other services owe to the header is in ``namespaces_header``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from conformance import clause
from conformance.suites._containers import exists, record
from conformance.suites._content import begin, digest_of, eventually, fresh, store
from conformance.suites._namespaces import NOBODY, SERVICE, labels, listen_to, name, names
from conformance.wire import Wire
from refimpl.api import namespaces_v1_pb2 as pb
from refimpl.api.event_types_pb2 import NamespaceCreate, NamespaceDelete, NamespaceUpdate
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.images import Image
from refimpl.contract.namespaces import Namespace
from refimpl.contract.types import Descriptor

BAD_NAMES = [
    "", "-{}", "{}-", "a--{}", "a..{}", "a__{}", "a.-{}", "a/{}", "..", ".", "../{}", "a {}", " {}", "\u00e4{}", "{}\n",
    "x" * 61 + "{}",
]  # fmt: skip

"""Forms of names that are refused; the last has 77 bytes."""

INGESTS = "io.containerd.content.v1.content/ingest"


# ----------------------------------------------------------------------------------------------------------- create


@clause("NSP-003")
@pytest.mark.parametrize("form", BAD_NAMES, ids=repr)
def test_what_is_no_identifier_is_no_name(ctx, namespaces, name, form):
    """Rejects: doubled or outer separators, 77 bytes, other letters, a pattern that ends before a newline."""
    bad = name(form)

    with pytest.raises(InvalidArgument):
        namespaces.create(ctx, Namespace(bad))

    assert bad not in names(namespaces)


@clause("NSP-003")
def test_every_identifier_is_a_name(ctx, namespaces, containers, name):
    """Rejects: a limit below 76 bytes, names that need a letter, or case that does not count."""
    good = [name("a_b_{}"), name("a.b-c.{}"), name("A9{}"), name("9{}"), name("x" * 60 + "{}")]
    lower = name("case{}")
    upper = name(lower.upper())
    assert len(good[-1]) == 76

    for each in [*good, lower, upper]:
        assert namespaces.create(ctx, Namespace(each)).name == each
    namespaces.delete(ctx, upper)

    found = names(namespaces)
    assert [each in found for each in [*good, lower, upper]] == [True] * (len(good) + 1) + [False]
    # One character cannot be a name of our own, but a list in a namespace that is not there says whether it would do.
    for one in "0aZ":
        containers.list(CallContext(namespace=one))


@clause("NSP-004")
def test_create_answers_with_what_was_sent_and_stores_labels_that_say_something(ctx, namespaces, name):
    """Rejects: an empty label that is stored, or missing in the answer."""
    a, sent = name(), {"k": "v", "e": "", "x.y/z": "1"}

    assert namespaces.create(ctx, Namespace(a, sent)) == Namespace(a, sent)

    kept = {"k": "v", "x.y/z": "1"}
    assert namespaces.get(ctx, a) == Namespace(a, kept)
    assert [n for n in namespaces.list(ctx) if n.name == a] == [Namespace(a, kept)]


@clause("NSP-005")
def test_a_namespace_that_exists_cannot_be_created_again(ctx, namespaces, containers, name, listen_to):
    """Rejects: labels that are merged into the existing namespace, or taken for one that a write brought about."""
    made, written = name(), name()
    namespaces.create(ctx, Namespace(made, {"k": "v"}))
    containers.create(CallContext(namespace=written), record("c"))

    for each, kept in ((made, {"k": "v"}), (written, {})):
        told = listen_to(each)
        with pytest.raises(AlreadyExists):
            namespaces.create(ctx, Namespace(each, {"k": "other", "n": "1"}))
        assert labels(namespaces, each) == kept
        assert told() == []


@clause("NSP-005")
def test_of_creations_at_the_same_time_one_succeeds(ctx, namespaces, name):
    """Rejects: looking whether the name is free in one step and writing in another."""
    raced = name()

    def create(number):
        try:
            return namespaces.create(ctx, Namespace(raced, {"n": str(number)}))
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(16) as pool:
        made = [n for n in pool.map(create, range(16)) if n is not None]

    assert len(made) == 1
    assert labels(namespaces, raced) == made[0].labels


# -------------------------------------------------------------------------------------------------------- get, list


@clause("NSP-006")
def test_get_answers_for_every_name(namespaces, name):
    """Rejects: not found, a check of the name, or a namespace that comes about because somebody asked."""
    for nope in (name(), "", "../x", "a--b"):
        assert namespaces.get(NOBODY, nope) == Namespace(nope, {})
        assert nope not in names(namespaces)


@clause("NSP-007")
def test_the_list_has_all_namespaces_in_byte_order(ctx, namespaces, name):
    """Rejects: an order that ignores case or counts numbers, a list without labels, or one that wants a header."""
    stem = name("s{}-")
    made = {suffix: name(f"{stem}{suffix}") for suffix in ("b2", "B1", "a10", "a2", "0", "A9")}
    for suffix, each in made.items():
        namespaces.create(ctx, Namespace(each, {"suffix": suffix}))

    for caller in (NOBODY, ctx, CallContext(namespace="../x")):
        found = namespaces.list(caller)
        assert [n.name for n in found] == sorted(n.name for n in found)
        assert [n for n in found if n.name.startswith(stem)] == [
            Namespace(made[suffix], {"suffix": suffix}) for suffix in ("0", "A9", "B1", "a10", "a2", "b2")
        ]


@clause("NSP-007", needs=("wire",))
def test_the_list_takes_no_notice_of_a_filter(ctx, namespaces, name, wire):
    """Rejects: a filter that is applied, or that has to parse."""
    a, b = name(), name()
    for each in (a, b):
        namespaces.create(ctx, Namespace(each))

    for text in ("", f"name=={a}", "bad!!"):
        answer = wire.call(f"{SERVICE}/List", pb.ListNamespacesRequest(filter=text))
        assert answer.ok, answer
        assert {a, b} <= {n.name for n in answer.messages[0].namespaces}, text


@clause("NSP-008")
def test_get_list_and_delete_need_no_namespace_of_the_caller(ctx, namespaces, name, listen_to):
    """Rejects: a service that wants the header for all of its calls, or a deletion that cannot be told without one."""
    a = name()
    namespaces.create(ctx, Namespace(a, {"k": "v"}))
    told = listen_to(a)

    assert namespaces.get(NOBODY, a) == Namespace(a, {"k": "v"})
    assert a in [n.name for n in namespaces.list(NOBODY)]
    namespaces.delete(NOBODY, a)

    assert a not in names(namespaces)
    assert [(h.topic, h.namespace, h.message.name) for h in told()] == [("/namespaces/delete", a, a)]


@clause("NSP-009")
@pytest.mark.parametrize("caller", ["", "bad/ns"], ids=["no header", "bad header"])
def test_a_change_without_a_usable_header_is_made(ctx, namespaces, name, caller):
    """Rejects: an error that takes the change back, so that neither clients of 1.6 nor of 2.x know where they are."""
    there, new = name(), name()
    namespaces.create(ctx, Namespace(there))
    outcomes = []
    for act in (
        lambda: namespaces.create(CallContext(namespace=caller), Namespace(new, {"k": "v"})),
        lambda: namespaces.update(CallContext(namespace=caller), Namespace(there, {"u": "1"})),
    ):
        try:
            act()
        except Unknown as error:
            # 1.6 tells the event in the caller's namespace, and cannot.
            outcomes.append(str(error).partition(":")[0])
        else:
            outcomes.append("2.x")

    assert outcomes in (["failed publishing event"] * 2, ["2.x"] * 2), "one behaviour for both calls"
    assert new in names(namespaces)
    assert (labels(namespaces, new), labels(namespaces, there)) == ({"k": "v"}, {"u": "1"})


# ---------------------------------------------------------------------------------------------------------- updates


@clause("NSP-010")
def test_an_update_without_mask_replaces_all_labels(ctx, namespaces, name):
    """Rejects: labels that are merged, or an update that cannot empty them."""
    a = name()
    namespaces.create(ctx, Namespace(a, {"k": "v"}))
    for wanted, after in (
        ({"n": "1", "e": ""}, {"n": "1"}),
        ({"n": "2", "m": "1"}, {"n": "2", "m": "1"}),
        ({}, {}),
    ):
        namespaces.update(ctx, Namespace(a, wanted))
        assert labels(namespaces, a) == after


@clause("NSP-010", needs=("wire",))
def test_a_mask_without_paths_is_no_mask_and_the_answer_has_no_namespace(ctx, namespaces, name, wire):
    """Rejects: an update that does nothing because its mask names nothing, or an answer that 1.6 never gave."""
    a = name()
    namespaces.create(ctx, Namespace(a, {"k": "v"}))
    for wanted, mask in (({"m": "2"}, FieldMask()), ({"n": "1"}, None), ({}, FieldMask())):
        request = pb.UpdateNamespaceRequest(namespace=pb.Namespace(name=a, labels=wanted), update_mask=mask)
        answer = wire.call(f"{SERVICE}/Update", request, namespace=ctx.namespace)
        assert answer.ok, answer
        assert (answer.messages[0].namespace.name, dict(answer.messages[0].namespace.labels)) == ("", {})
        assert labels(namespaces, a) == wanted


@clause("NSP-011")
def test_a_mask_names_one_label(ctx, namespaces, name):
    """Rejects: keys that end at the second dot, other labels of the request, or not found for one that is not there."""
    a = name()
    namespaces.create(ctx, Namespace(a, {"m": "2"}))
    for wanted, paths, after in (
        ({"x": "y", "z": "zz"}, ["labels.x"], {"m": "2", "x": "y"}),
        ({"z": "zz"}, ["labels.x"], {"m": "2"}),
        ({}, ["labels.nosuch"], {"m": "2"}),
        ({"q.r.s": "1", "q": "9"}, ["labels.q.r.s"], {"m": "2", "q.r.s": "1"}),
        ({"q/r": "2", "x": "1"}, ["labels.q/r", "labels.x"], {"m": "2", "q.r.s": "1", "q/r": "2", "x": "1"}),
        ({"m": ""}, ["labels.m"], {"q.r.s": "1", "q/r": "2", "x": "1"}),
    ):
        namespaces.update(ctx, Namespace(a, wanted), paths)
        assert labels(namespaces, a) == after, (wanted, paths)


@clause("NSP-012")
@pytest.mark.parametrize(
    "paths",
    [["labels"], ["name"], ["foo"], [""], ["Labels.good"], ["labels.good", "name"], ["name", "labels.good"]],
    ids=str,
)
def test_no_other_mask_path_is_taken_and_nothing_is_changed(ctx, namespaces, name, listen_to, paths):
    """Rejects: labels as replace-all, a first change that stays when the second is refused, or an event."""
    a = name()
    namespaces.create(ctx, Namespace(a, {"k": "v"}))
    told = listen_to(a)

    with pytest.raises(InvalidArgument):
        namespaces.update(ctx, Namespace(a, {"good": "1", "name": "1"}), paths)

    assert labels(namespaces, a) == {"k": "v"}
    assert told() == []


@clause("NSP-013")
def test_an_update_can_bring_a_namespace_into_being(ctx, namespaces, name):
    """Rejects: not found, or a namespace that comes about although there is nothing to write."""
    set_, nothing, masked = name(), name(), name()

    namespaces.update(ctx, Namespace(set_, {"a": "b"}))
    namespaces.update(ctx, Namespace(nothing))
    namespaces.update(ctx, Namespace(masked), ["labels.k"])

    found = {n.name: n.labels for n in namespaces.list(ctx)}
    assert found.get(set_) == {"a": "b"}
    assert nothing not in found
    assert found.get(masked) == {}


@clause("NSP-014")
def test_an_update_with_a_bad_name_makes_nothing_but_a_record(ctx, namespaces, name, subject):
    """Rejects: a directory made from the unchecked name, or a refusal that leaves the namespace behind."""
    bad = name("conform-{}/ns")

    try:
        namespaces.update(ctx, Namespace(bad, {"a": "b"}))
    except InvalidArgument:
        assert bad not in names(namespaces)
    except Unknown:
        assert bad in names(namespaces), "2.x makes it, and cannot tell"
    else:
        assert bad in names(namespaces), "a success that made nothing"
    with pytest.raises((Unknown, InvalidArgument)):
        namespaces.update(ctx, Namespace("", {"a": "b"}))

    stem = bad.partition("/")[0]
    if subject.root is not None:
        assert [path for path in subject.root.rglob("*") if path.name.startswith(stem)] == []
    # Such a namespace is nobody's use; its deletion works, though 1.6 cannot tell of it.
    with suppress(ContainerdError):
        namespaces.delete(ctx, bad)
    assert bad not in names(namespaces)


@clause("NSP-015")
def test_a_label_has_at_most_4096_bytes(ctx, namespaces, name):
    """Rejects: a limit for the value alone, a namespace without the label that was too long, counting characters."""
    over, fits, nameless = name(), name(), name()
    for long in ({"k": "v" * 4096}, {"k" * 4096: "v"}, {"k": "\u00e4" * 2048}, {"a": "1", "k": "v" * 4096}):
        with pytest.raises(InvalidArgument):
            namespaces.create(ctx, Namespace(over, long))
        assert over not in names(namespaces)

    namespaces.create(ctx, Namespace(fits, {"k": "v" * 4095}))
    assert labels(namespaces, fits) == {"k": "v" * 4095}
    for paths in (["labels.k"], []):
        # The kind gets lost in both releases.
        with pytest.raises((Unknown, InvalidArgument)):
            namespaces.update(ctx, Namespace(fits, {"k": "w" * 4096}), paths)
        assert labels(namespaces, fits) == {"k": "v" * 4095}
    namespaces.update(ctx, Namespace(fits, {"k": "w" * 4095}), ["labels.k"])
    assert labels(namespaces, fits) == {"k": "w" * 4095}

    with pytest.raises((Unknown, InvalidArgument)):
        namespaces.create(ctx, Namespace(nameless, {"a": "1", "": "v"}))
    assert nameless not in names(namespaces)


# --------------------------------------------------------------------------------------------------------- deletion


class _Kinds:
    """One object of each kind that keeps a namespace: ``make`` and ``drop`` by kind, in the order of the message."""

    def __init__(self, ctx, images, content, containers, snapshotters):
        self._ctx, self._images, self._content, self._containers = ctx, images, content, containers
        # The message names snapshotters in byte order.
        self._snapshotters = {f'snapshots on "{id}" snapshotter': found for id, found in sorted(snapshotters.items())}
        self._data = fresh()
        self.all = ["images", "blobs", "containers", *self._snapshotters]

    def make(self, kind):
        ctx = self._ctx
        match kind:
            case "images":
                self._images.create(ctx, Image("i", Descriptor("application/x", digest_of(fresh()), 1)))
            case "blobs":
                store(self._content, ctx, self._data)
            case "containers":
                self._containers.create(ctx, record("c"))
            case _:
                self._snapshotters[kind].prepare(ctx, "s")

    def drop(self, kind):
        ctx = self._ctx
        match kind:
            case "images":
                self._images.delete(ctx, "i")
            case "blobs":
                self._content.delete(ctx, digest_of(self._data))
            case "containers":
                self._containers.delete(ctx, "c")
            case _:
                self._snapshotters[kind].remove(ctx, "s")


@pytest.fixture
def kinds(ctx, images, content, containers, snapshotters, subject):
    """Objects of every kind, snapshots with up to two snapshotters."""
    ids = sorted(subject.snapshotters, key=lambda id: (id not in ("native", "overlayfs"), id))[:2]
    return _Kinds(ctx, images, content, containers, {id: snapshotters(id) for id in ids})


@clause("NSP-016")
def test_a_namespace_that_holds_objects_cannot_be_deleted(ctx, namespaces, kinds):
    """Rejects: a namespace that goes with its contents, or a message that does not say what is left, or in disorder."""
    for kind in kinds.all:
        kinds.make(kind)

    left = list(kinds.all)
    while left:
        with pytest.raises(FailedPrecondition) as caught:
            namespaces.delete(ctx, ctx.namespace)
        assert f"it still has {', '.join(left)}" in str(caught.value)
        assert [kind for kind in kinds.all if kind in str(caught.value)] == left
        assert ctx.namespace in names(namespaces)
        kinds.drop(left.pop(0))

    namespaces.delete(ctx, ctx.namespace)
    assert ctx.namespace not in names(namespaces)


@clause("NSP-016")
def test_objects_of_each_kind_alone_keep_the_namespace(ctx, namespaces, kinds):
    """Rejects: a kind that is not looked for."""
    for kind in kinds.all:
        kinds.make(kind)
        with pytest.raises(FailedPrecondition) as caught:
            namespaces.delete(ctx, ctx.namespace)
        assert [each for each in kinds.all if each in str(caught.value)] == [kind]
        kinds.drop(kind)


@clause("NSP-017")
def test_a_lease_does_not_keep_a_namespace(ctx, namespaces, leases):
    """Rejects: a deletion that is refused because of a lease, or a lease that comes back with the name."""
    assert [lease.id for lease in leases.list(ctx)] == [ctx.lease]

    namespaces.delete(ctx, ctx.namespace)

    assert ctx.namespace not in names(namespaces)
    assert leases.list(ctx) == []


@clause("NSP-017")
def test_an_unfinished_ingest_does_not_keep_a_namespace(ctx, namespaces, content):
    """Rejects: a deletion that is refused because of an upload, or an upload that can be gone on with afterwards."""
    begin(content, ctx, "half", fresh())
    assert [status.ref for status in content.list_statuses(ctx)] == ["half"]

    namespaces.delete(ctx, ctx.namespace)

    assert ctx.namespace not in names(namespaces)
    assert list(content.list_statuses(ctx)) == []


@clause("NSP-018", needs=("config", "disk"))
def test_the_data_of_a_dropped_ingest_goes_with_a_later_collection(own):
    """Rejects: data that stays for ever."""
    instance, ctx, other = own(), CallContext(namespace="conform-dropped"), CallContext(namespace="conform-other")
    store(instance.content, other, fresh())
    begin(instance.content, ctx, "half", fresh())
    folder = instance.root / INGESTS
    (half,) = folder.iterdir()

    instance.namespaces.delete(ctx, ctx.namespace)
    instance.collect(other)
    # It may be there or not: only a collection that finds content to take has to look.
    lease = instance.leases.create(other, "l")
    store(instance.content, other.with_lease(lease.id), fresh())
    instance.leases.delete(other, lease.id, sync=True)

    assert not half.exists()


@clause("NSP-020")
def test_a_namespace_that_is_not_there_cannot_be_deleted(ctx, namespaces, name, listen_to):
    """Rejects: success for unknown names, or an event for what did not happen."""
    a, nope = name(), name()
    namespaces.create(ctx, Namespace(a))
    namespaces.delete(ctx, a)
    told = [listen_to(each) for each in (a, nope)]

    for unknown in (a, nope, ""):
        with pytest.raises(NotFound):
            namespaces.delete(ctx, unknown)

    assert [ear() for ear in told] == [[], []]


# ----------------------------------------------------------------------------------------------------------- events


@clause("NSP-021")
def test_each_change_of_a_namespace_is_told_once_as_it_was_asked_for(ctx, namespaces, name, listen_to):
    """Rejects: labels as they are stored instead of those sent, a missing event, or one too many."""
    a = name()
    told = listen_to(a)

    namespaces.create(ctx, Namespace(a, {"k": "v", "e": ""}))
    namespaces.update(ctx, Namespace(a, {"x": "y", "z": "zz"}), ["labels.x"])
    namespaces.update(ctx, Namespace(a))
    namespaces.delete(ctx, a)

    heard = told()
    assert [h.topic for h in heard] == [
        "/namespaces/create", "/namespaces/update", "/namespaces/update", "/namespaces/delete",
    ]  # fmt: skip
    assert [type(h.message) for h in heard] == [NamespaceCreate, NamespaceUpdate, NamespaceUpdate, NamespaceDelete]
    assert {h.message.name for h in heard} == {a}
    assert [dict(h.message.labels) for h in heard[:3]] == [{"k": "v", "e": ""}, {"x": "y", "z": "zz"}, {}]


@clause("NSP-021")
def test_a_namespace_that_a_write_brings_about_is_not_told(namespaces, containers, name, listen_to):
    """Rejects: an event for a creation that nobody asked for."""
    a = name()
    told = listen_to(a)

    containers.create(CallContext(namespace=a), record("c"))

    assert [(h.topic, h.namespace) for h in told()] == [("/containers/create", a)]


@clause("NSP-022")
def test_a_deletion_is_told_in_the_namespace_that_is_gone(ctx, namespaces, name, listen_to):
    """Rejects: a deletion told in the caller's namespace, or a creation told in neither of the two places allowed."""
    a = name()
    told = listen_to(a)

    namespaces.create(ctx, Namespace(a))
    namespaces.update(ctx, Namespace(a, {"k": "v"}))
    namespaces.delete(ctx, a)

    # The caller's for two of them in 1.6, the namespace concerned in 2.x.
    assert [h.namespace for h in told()] in ([ctx.namespace, ctx.namespace, a], [a, a, a])


# -------------------------------------------------------------------------------------------- time, and raw messages


@clause("NSP-023", needs=("restart",))
def test_namespaces_survive_a_restart(own):
    """Rejects: labels that live in memory."""
    instance, caller = own(), CallContext(namespace="conform-caller")
    instance.namespaces.create(caller, Namespace("persist", {"a": "1"}))
    instance.namespaces.create(caller, Namespace("plain"))
    instance.namespaces.update(caller, Namespace("later", {"b": "2"}))
    instance.containers.create(CallContext(namespace="written"), record("c"))
    before = instance.namespaces.list(caller)
    assert Namespace("persist", {"a": "1"}) in before

    instance.restart()

    assert instance.namespaces.list(caller) == before


@clause("NSP-023", needs=("restart", "kill"))
def test_a_namespace_that_was_acknowledged_survives_a_kill(own):
    """Rejects: answers before the record is on the disk."""
    instance = own()
    instance.namespaces.create(CallContext(namespace="conform-caller"), Namespace("persist2", {"a": "1"}))

    instance.restart(kill=True)

    assert Namespace("persist2", {"a": "1"}) in instance.namespaces.list(NOBODY)


@clause("NSP-028", needs=("wire", "config"))
@pytest.mark.parametrize(
    "method, request_type, codes",
    [
        ("Create", pb.CreateNamespaceRequest, {"INVALID_ARGUMENT"}),
        ("Update", pb.UpdateNamespaceRequest, {"OK", "INVALID_ARGUMENT"}),
    ],
    ids=["Create", "Update"],
)
def test_a_request_without_a_namespace_changes_nothing_and_harms_nobody(own, method, request_type, codes):
    """Rejects: an absent sub-message that takes the daemon down, or comes to be a namespace."""
    # A daemon of our own: some releases die of this.
    instance = own()
    before = instance.namespaces.list(NOBODY)
    wire = Wire(instance.address)
    try:
        answer = wire.call(f"{SERVICE}/{method}", request_type(), namespace="conform-caller")
        assert answer.code in codes, answer
        assert instance.alive() == ""
        assert wire.call(f"{SERVICE}/List", pb.ListNamespacesRequest()).ok
    finally:
        wire.close()
    assert instance.namespaces.list(NOBODY) == before


@clause("NSP-029", needs=("disk", "content"))
def test_keys_of_a_namespace_begin_with_its_name_and_blobs_are_everybodys(ctx, content, new_namespace, subject):
    """Rejects: refs of two namespaces that collide in the back end, or a blob that is stored twice."""
    other, data = new_namespace(), fresh()
    for where in (ctx, other):
        store(content, where, data)
        begin(content, where, "same-ref", fresh())

    folder = subject.root / INGESTS
    refs = {_text(ingest / "ref") for ingest in folder.iterdir()}
    for where in (ctx, other):
        (mine,) = [ref for ref in refs if ref.startswith(f"{where.namespace}/")]
        assert mine.endswith("/same-ref")
    blobs = folder.parent / "blobs"
    assert [path.relative_to(blobs).as_posix() for path in blobs.rglob(digest_of(data)[7:])] == [
        digest_of(data).replace(":", "/")
    ]


def _text(file):
    """A small file; empty if it went in the meantime, as those of other checks do."""
    with suppress(FileNotFoundError):
        return file.read_text()
    return ""


@clause("NSP-030", needs=())
def test_a_namespace_without_labels_reads_the_same_however_it_came_about(ctx, namespaces, containers, leases, name):
    """Rejects: a reader that stumbles over a namespace which nobody has declared."""
    plain, written, leased = name(), name(), name()
    namespaces.create(ctx, Namespace(plain))
    containers.create(CallContext(namespace=written), record("c"))
    leases.create(CallContext(namespace=leased), "l")

    found = {n.name: n.labels for n in namespaces.list(ctx)}
    for each in (plain, written, leased):
        assert namespaces.get(ctx, each) == Namespace(each, {})
        assert found[each] == {}
    namespaces.update(ctx, Namespace(written, {"first": "1"}), ["labels.first"])
    assert labels(namespaces, written) == {"first": "1"}
