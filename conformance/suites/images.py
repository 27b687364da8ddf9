"""Images, the records: names that point at content, their events, and what they keep (IMG-001 to IMG-031).

What a client makes of archives is in ``images_import``, the way out and the removal of whole images in
``images_export``.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from conformance import clause, patience
from conformance.suites._content import eventually, fresh, has, store
from conformance.suites._images import GC_CONTENT, GC_SNAPSHOT, exists, names, target, tree
from conformance.wire import Wire
from refimpl.api import images_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.client.manifests import OCI_INDEX, OCI_MANIFEST
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from refimpl.contract.images import Image
from refimpl.contract.leases import Resource
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor, TypedAny

SERVICE = "containerd.services.images.v1.Images"

EXPIRED = {"containerd.io/gc.expire": "2001-01-01T00:00:00Z"}

LISTED = ["b", "docker.io/library/a:1", "docker.io/library/b:1", "quay.io/c@sha256:1"]
"""Names in the order of their bytes."""


def _near_now(nanoseconds):
    return abs(time.time_ns() - nanoseconds) < 60 * SECOND


def _message(image):
    """An image as raw calls send it."""
    blob = image.target
    return pb.Image(
        name=image.name,
        labels=dict(image.labels),
        target=types_pb2.Descriptor(
            media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=dict(blob.annotations)
        ),
    )


# ------------------------------------------------------------------------------------------------ create, get, list


@clause("IMG-001")
def test_create_stores_the_record_and_answers_with_it(ctx, images):
    """Rejects: the caller's times, empty labels that are kept, or an answer that echoes the request."""
    wanted = target(annotations={"an": "x", "ae": ""})

    made = images.create(
        ctx, Image("docker.io/library/a:1", wanted, {"k": "v", "e": ""}, created_at=5 * SECOND, updated_at=6 * SECOND)
    )

    assert made.name == "docker.io/library/a:1"
    assert made.target == replace(wanted, annotations={"an": "x"})
    assert dict(made.labels) == {"k": "v"}
    assert made.created_at == made.updated_at
    assert _near_now(made.created_at)
    assert images.get(ctx, "docker.io/library/a:1") == made


@clause("IMG-002")
def test_a_name_that_is_taken_cannot_be_created_again(ctx, images):
    """Rejects: a second create that replaces the record."""
    made = images.create(ctx, Image("taken", target(), {"k": "v"}))

    with pytest.raises(AlreadyExists):
        images.create(ctx, Image("taken", target(), {"other": "1"}))

    assert images.get(ctx, "taken") == made, "a refused call changes nothing"


@clause("IMG-002")
def test_of_creates_at_the_same_time_one_succeeds(ctx, images):
    """Rejects: looking whether the name is free in one step and writing in another."""
    wanted = [Image("raced", target(), {"n": str(n)}) for n in range(8)]

    def create(image):
        try:
            return images.create(ctx, image)
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [image for image in pool.map(create, wanted) if image is not None]

    assert len(made) == 1
    assert images.get(ctx, "raced") == made[0]


@clause("IMG-003")
def test_an_empty_name_is_refused(ctx, images):
    """Rejects: a record whose name is the empty string, or an update without a name that creates one."""
    for call in (images.create, images.update):
        with pytest.raises(InvalidArgument):
            call(ctx, Image("", target()))
    for call in (images.get, images.delete):
        with pytest.raises(NotFound):
            call(ctx, "")
    assert images.list(ctx) == []


@clause("IMG-003")
@pytest.mark.parametrize(
    "name",
    [" ", "a b", "../../x", "UPPER:tag", "sha256:abc", "two\nlines", "na\u00efve/\u540d\u524d", 5000 * "x"],
    ids=["blank", "inner-blank", "dots", "upper", "id", "newline", "not-ascii", "long"],
)
def test_any_text_is_a_name(ctx, images, name):
    """Rejects: names that are parsed as references, so that CRI's ``sha256:<id>`` fails."""
    images.create(ctx, Image(name, target()))

    assert images.get(ctx, name).name == name
    assert names(images, ctx) == [name]
    images.delete(ctx, name)
    assert images.list(ctx) == []


@clause("IMG-004")
@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": ""},
        {"digest": "sha256:zz"},
        {"digest": "md5:" + 32 * "0"},
        {"size": 0},
        {"size": -1},
        {"media_type": ""},
    ],
    ids=lambda wrong: "-".join(f"{k}={v}"[:20] for k, v in wrong.items()),
)
def test_a_target_that_is_no_descriptor_is_refused(ctx, images, wrong):
    """Rejects: a size of 0 that is found out at the first export."""
    with pytest.raises(InvalidArgument):
        images.create(ctx, Image("wrong", target(**wrong)))

    with pytest.raises(NotFound):
        images.get(ctx, "wrong")


@clause("IMG-005")
@pytest.mark.parametrize("labels", [{"k": 4096 * "v"}, {"": "v"}], ids=["too-long", "no-key"])
def test_labels_that_break_the_limits_are_refused(ctx, images, labels):
    """Rejects: limits that hold for content and not for images."""
    with pytest.raises(InvalidArgument if "k" in labels else ContainerdError):
        images.create(ctx, Image("labelled", target(), labels))

    assert images.list(ctx) == []


@clause("IMG-005")
def test_a_label_may_be_as_long_as_the_limit(ctx, images):
    """Rejects: a limit on the value alone, or one that is off by one."""
    images.create(ctx, Image("labelled", target(), {"k": 4095 * "v"}))

    assert images.get(ctx, "labelled").labels["k"] == 4095 * "v"


@clause("IMG-005")
def test_annotations_have_no_limit(ctx, images):
    """Rejects: the limit of labels applied to annotations."""
    images.create(ctx, Image("annotated", target(annotations={"long": 100_000 * "a"})))

    assert images.get(ctx, "annotated").target.annotations == {"long": 100_000 * "a"}


@clause("IMG-006")
def test_an_image_may_point_at_content_that_is_not_there(ctx, images, collect):
    """Rejects: a look into the content store, which breaks images that are pulled lazily."""
    made = images.create(ctx, Image("hollow", target()))

    collect(ctx)

    assert images.get(ctx, "hollow") == made
    assert names(images, ctx) == ["hollow"]
    assert images.update(ctx, replace(made, labels={"k": "v"}), ["labels"]).target == made.target


@clause("IMG-007")
@pytest.mark.parametrize("name", ["b", "b:1", "", "nope", "docker.io/library/B:1", "docker.io/library/b"])
def test_a_name_is_looked_up_byte_for_byte(ctx, images, name):
    """Rejects: a default registry, tag or case put into what the caller asks for."""
    images.create(ctx, Image("docker.io/library/b:1", target()))

    with pytest.raises(NotFound):
        images.get(ctx, name)


@clause("IMG-008")
@pytest.mark.parametrize("filters", [(), ("",)], ids=["no-filter", "empty-filter"])
def test_images_are_listed_in_the_order_of_their_names(ctx, images, filters):
    """Rejects: the order of creation, or an empty filter that matches nothing."""
    for name in (LISTED[2], LISTED[3], LISTED[0], LISTED[1]):
        images.create(ctx, Image(name, target()))

    assert names(images, ctx, *filters) == LISTED


@clause("IMG-008")
def test_an_unknown_namespace_has_no_images(new_namespace, images):
    """Rejects: NotFound for a namespace in which nothing was made yet."""
    assert images.list(new_namespace(lease=False)) == []


def _filled(ctx, images):
    """The four images that the checks of filters look among; the answer holds them by name."""
    made = [
        Image("b", target(annotations={"ref": "b"}), {"app": "x"}),
        Image(LISTED[1], target(), {"app": "y", "k.d/s": "v"}),
        Image(LISTED[2], target(media_type=OCI_INDEX)),
        Image(LISTED[3], target(annotations={"ref": "c"}), {"other": "1"}),
    ]
    return {image.name: images.create(ctx, image) for image in made}


@clause("IMG-009")
@pytest.mark.parametrize(
    "wanted, found",
    [
        ("name==b", LISTED[:1]),
        ("name==docker.io/library/b:1", [LISTED[2]]),
        ('name=="docker.io/library/b:1"', [LISTED[2]]),
        ("name~=library", LISTED[1:3]),
        (r"name~=^docker\.io/", LISTED[1:3]),
        (r'name~="^docker\\.io/"', LISTED[1:3]),
        ("name!=b", LISTED[1:]),
        ("name", LISTED),
    ],
)
def test_images_are_filtered_by_name(ctx, images, wanted, found):
    """Rejects: ``~=`` anchored at both ends, or values that must be quoted as soon as they hold a slash."""
    _filled(ctx, images)

    assert names(images, ctx, wanted) == found


@clause("IMG-010")
def test_images_are_filtered_by_target_and_annotations(ctx, images):
    """Rejects: a field that is spelled ``target.media_type``."""
    made = _filled(ctx, images)
    also = images.create(ctx, Image("also", made["b"].target))

    assert names(images, ctx, f"target.digest=={made['b'].target.digest}") == [also.name, "b"]
    assert names(images, ctx, "target.digest~=^sha256:") == ["also", *LISTED]
    assert names(images, ctx, f"target.mediatype=={OCI_MANIFEST}") == ["also", "b", LISTED[1], LISTED[3]]
    assert names(images, ctx, "annotations.ref==c") == [LISTED[3]]


@clause("IMG-010")
@pytest.mark.parametrize(
    "wanted", ["target", "target.size==10", "target.annotations.ref==b", "bogus", "target.media_type"]
)
def test_other_fields_match_nothing(ctx, images, wanted):
    """Rejects: fields made up as the wire spells them."""
    _filled(ctx, images)

    assert names(images, ctx, wanted) == []


@clause("IMG-011")
@pytest.mark.parametrize(
    "filters, found",
    [
        (["labels.app"], LISTED[:2]),
        (["labels.app==x"], LISTED[:1]),
        (['labels."k.d/s"==v'], [LISTED[1]]),
        (["name==b", "labels.app==y"], LISTED[:2]),
        (["name~=docker,labels.app==y"], [LISTED[1]]),
        (["name~=docker,labels.app==x"], []),
    ],
)
def test_images_are_filtered_by_labels_and_combinations(ctx, images, filters, found):
    """Rejects: several filters that must all hold, or commas that are alternatives."""
    _filled(ctx, images)

    assert names(images, ctx, *filters) == found


@clause("IMG-011")
@pytest.mark.parametrize("wanted", ["name=", r"name~=/^docker\.io\//"], ids=["no-operator", "escaped-slash"])
def test_a_filter_that_does_not_parse_is_refused(ctx, images, wanted):
    """Rejects: an empty list, which looks like an answer."""
    _filled(ctx, images)

    with pytest.raises(InvalidArgument):
        images.list(ctx, [wanted])


# ------------------------------------------------------------------------------------------------ update


@clause("IMG-012")
def test_one_label_is_changed(ctx, images):
    """Rejects: a target that is applied although the mask does not name it."""
    made = images.create(ctx, Image("i", target(), {"k": "v"}))

    changed = images.update(ctx, Image("i", target(), {"n": "1", "unasked": "1"}), ["labels.n"])

    assert dict(changed.labels) == {"k": "v", "n": "1"}
    assert changed.target == made.target
    assert changed.created_at == made.created_at
    assert changed.updated_at > made.updated_at
    assert images.get(ctx, "i") == changed


@clause("IMG-012")
@pytest.mark.parametrize("labels", [{"a.b/c": ""}, {}], ids=["empty", "absent"])
def test_one_label_is_removed(ctx, images, labels):
    """Rejects: a key that ends at its first dot, or a label with an empty value."""
    images.create(ctx, Image("i", target(), {"k": "v", "a.b/c": "1"}))

    assert dict(images.update(ctx, Image("i", labels=labels), ["labels.a.b/c"]).labels) == {"k": "v"}
    assert dict(images.get(ctx, "i").labels) == {"k": "v"}


@clause("IMG-013")
def test_annotations_are_changed_one_by_one_or_together(ctx, images):
    """Rejects: a path ``target.annotations.<key>``, or annotations that bring the rest of the target along."""
    made = images.create(ctx, Image("i", target(annotations={"an": "x"}), {"k": "v"}))

    one = images.update(ctx, Image("i", target(size=11, annotations={"b": "2", "c": "3"})), ["annotations.b"])
    assert one.target == replace(made.target, annotations={"an": "x", "b": "2"})

    whole = images.update(ctx, Image("i", target(size=11, annotations={"only": "1"})), ["annotations"])
    assert whole.target == replace(made.target, annotations={"only": "1"})
    assert whole.labels == made.labels
    assert images.get(ctx, "i") == whole


@clause("IMG-014")
def test_the_target_is_replaced_as_a_whole(ctx, images):
    """Rejects: annotations of the old target that survive, or labels that come along."""
    made = images.create(ctx, Image("i", target(annotations={"an": "x"}), {"k": "v", "n": "1"}))
    wanted = target(media_type=OCI_INDEX, size=11)

    moved = images.update(ctx, Image("i", wanted, {"zz": "1"}), ["target"])
    assert (moved.target, moved.labels) == (wanted, made.labels)

    labelled = images.update(ctx, Image("i", target(), {"zz": "1"}), ["labels"])
    assert (labelled.target, dict(labelled.labels)) == (wanted, {"zz": "1"})
    assert images.get(ctx, "i") == labelled


@clause("IMG-014")
@pytest.mark.parametrize("part", ["target.digest", "target.size", "target.media_type"])
def test_parts_of_the_target_cannot_be_addressed(ctx, images, part):
    """Rejects: a target put together from two images."""
    made = images.create(ctx, Image("i", target()))

    with pytest.raises(InvalidArgument):
        images.update(ctx, Image("i", target()), [part])

    assert images.get(ctx, "i") == made


@clause("IMG-015")
def test_an_update_without_paths_replaces_labels_and_target(ctx, images):
    """Rejects: labels that are merged, or a creation time that is set anew."""
    made = images.create(ctx, Image("i", target(annotations={"an": "x"}), {"k": "v"}))
    wanted = target()

    changed = images.update(ctx, Image("i", wanted, {"all": "1"}, created_at=5 * SECOND))

    assert (changed.target, dict(changed.labels)) == (wanted, {"all": "1"})
    assert changed.created_at == made.created_at
    assert changed.updated_at > made.updated_at
    assert images.get(ctx, "i") == changed


@clause("IMG-015")
@pytest.mark.parametrize("mask", [None, FieldMask()], ids=["no-mask", "empty-mask"])
def test_an_absent_and_an_empty_mask_mean_the_same(ctx, images, wire, mask):
    """Rejects: an empty mask that changes nothing."""
    images.create(ctx, Image("i", target(), {"k": "v"}))
    wanted = target()
    request = pb.UpdateImageRequest(image=_message(Image("i", wanted, {"all": "1"})), update_mask=mask)

    answer = wire.call(f"{SERVICE}/Update", request, namespace=ctx.namespace)

    assert answer.ok, answer.message
    assert images.get(ctx, "i").target == wanted
    assert dict(images.get(ctx, "i").labels) == {"all": "1"}


@clause("IMG-016")
@pytest.mark.parametrize(
    "paths", [["name"], ["size"], ["target.digest"], ["created_at"], [""], ["labels.a", "bogus"]], ids="+".join
)
def test_other_paths_are_refused_and_nothing_changes(ctx, images, paths):
    """Rejects: unknown paths that are skipped, or the paths before them that are applied."""
    made = images.create(ctx, Image("i", target(), {"k": "v"}))

    with pytest.raises(InvalidArgument):
        images.update(ctx, Image("i", target(), {"a": "1"}), paths)

    assert images.get(ctx, "i") == made


@clause("IMG-017")
@pytest.mark.parametrize("paths", [(), ("labels",)], ids=["all", "labels"])
def test_an_update_does_not_create(ctx, images, paths):
    """Rejects: an update that makes the record it did not find."""
    with pytest.raises(NotFound):
        images.update(ctx, Image("nope", target(), {"k": "v"}), paths)
    assert images.list(ctx) == []

    with pytest.raises(InvalidArgument):
        images.update(ctx, Image("", target(), {"k": "v"}), paths)


@clause("IMG-018")
def test_an_update_is_judged_by_its_result(ctx, images):
    """Rejects: a request that is validated before the mask is applied, or not at all."""
    made = images.create(ctx, Image("i", target()))
    wrong = Descriptor("", "bad", 0)

    assert images.update(ctx, Image("i", wrong, {"q": "1"}), ["labels.q"]).target == made.target
    before = images.get(ctx, "i")
    for call in (
        lambda: images.update(ctx, Image("i", wrong), ["target"]),
        lambda: images.update(ctx, Image("i", wrong)),
    ):
        with pytest.raises(InvalidArgument):
            call()
    with pytest.raises(InvalidArgument):
        images.update(ctx, Image("i", labels={"long": 4096 * "v"}), ["labels.long"])
    assert images.get(ctx, "i") == before


# ------------------------------------------------------------------------------------------------ delete


@clause("IMG-019")
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_delete_removes_the_record(ctx, images, sync):
    """Rejects: a delete of nothing that is no error."""
    # Another one stays: with the last image gone, containerd's database has an answer of its own for the empty name.
    images.create(ctx, Image("stays", target()))
    images.create(ctx, Image("i", target()))

    images.delete(ctx, "i", sync=sync)

    with pytest.raises(NotFound):
        images.get(ctx, "i")
    for name in ("i", "nope", ""):
        with pytest.raises(NotFound):
            images.delete(ctx, name, sync=sync)


@clause("IMG-019")
def test_delete_leaves_content_to_the_collector(ctx, content, images, blob):
    """Rejects: a delete that takes the content itself, though a lease holds it."""
    digest = blob(fresh())
    images.create(ctx, Image("i", target(digest=digest)))

    images.delete(ctx, "i", sync=True)

    assert has(content, ctx, digest)


def _kept(content, images, leases, ctx, name="kept", labels=None):
    """An image whose manifest refers to a leaf, and nothing else that holds them: digests of manifest and leaf."""
    leased = ctx.with_lease(leases.create(ctx).id)
    leaf = store(content, leased, fresh())
    manifest = store(content, leased, fresh(), {f"{GC_CONTENT}.0": leaf})
    images.create(ctx, Image(name, target(digest=manifest), labels or {}))
    leases.delete(ctx, leased.lease)
    return manifest, leaf


@clause("IMG-020")
def test_a_synchronous_delete_returns_after_the_collection(unleased, content, images, leases):
    """Rejects: an answer that comes as soon as a collection is scheduled."""
    blobs = _kept(content, images, leases, unleased)
    assert all(has(content, unleased, digest) for digest in blobs)

    images.delete(unleased, "kept", sync=True)

    assert [has(content, unleased, digest) for digest in blobs] == [False, False]


@clause("IMG-020", needs={"disk"})
def test_a_synchronous_delete_returns_after_the_files_are_gone(subject, unleased, content, images, leases):
    """Rejects: a collection that removes records now and files some time later."""
    blobs = _kept(content, images, leases, unleased)
    files = [subject.root / "io.containerd.content.v1.content/blobs" / digest.replace(":", "/") for digest in blobs]
    assert all(file.exists() for file in files)

    images.delete(unleased, "kept", sync=True)

    assert not any(file.exists() for file in files)


@clause("IMG-021")
def test_a_delete_is_followed_by_a_collection(unleased, content, images, leases, collect):
    """Rejects: deletions that make nobody collect."""
    # A daemon that has just started collects once without being asked; that one is over after this.
    collect(unleased)
    blobs = _kept(content, images, leases, unleased)

    images.delete(unleased, "kept")

    assert eventually(lambda: not any(has(content, unleased, digest) for digest in blobs))


@clause("IMG-021")
def test_a_failed_delete_collects_nothing(own):
    """Rejects: a collection for a delete that removed nothing."""
    instance = own(config='version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "1h"\n')
    ctx = CallContext(namespace="alone")
    garbage = store(instance.content, ctx, fresh())

    with pytest.raises(NotFound):
        instance.images.delete(ctx, "nope", sync=True)

    assert has(instance.content, ctx, garbage)


# ------------------------------------------------------------------------------------------------ events, namespaces


@clause("IMG-022")
def test_every_success_is_told_once_and_in_order(ctx, images, events):
    """Rejects: a type url that clients cannot decode, events for failures, or labels as they were asked for."""
    listening = replace(ctx, deadline=time.monotonic() + 2 * patience.SECONDS)
    audience = events.subscribe(listening, [f"namespace=={ctx.namespace}"])
    try:
        images.create(ctx, Image("i", target(), {"k": "v"}))
        for refused in (
            lambda: images.create(ctx, Image("i", target())),
            lambda: images.delete(ctx, "nope", sync=True),
        ):
            with pytest.raises(ContainerdError):
                refused()
        images.update(ctx, Image("i", target(), {"n": "1"}), ["labels.n"])
        with pytest.raises(InvalidArgument):
            images.update(ctx, Image("i", target()), ["bogus"])
        images.delete(ctx, "i")
        images.create(ctx, Image("j", target()))
        images.delete(ctx, "j", sync=True)
        events.publish(ctx, "/conformance/end", TypedAny("conformance.End", b""))
        told = []
        for envelope in audience:
            if envelope.topic == "/conformance/end":
                break
            told.append(envelope)
    finally:
        audience.close()

    package = "containerd.services.images.v1"
    assert {envelope.namespace for envelope in told} == {ctx.namespace}
    assert [(e.topic, e.event.type_url) for e in told] == [
        ("/images/create", f"{package}.ImageCreate"),
        ("/images/update", f"{package}.ImageUpdate"),
        ("/images/delete", f"{package}.ImageDelete"),
        ("/images/create", f"{package}.ImageCreate"),
        ("/images/delete", f"{package}.ImageDelete"),
    ]
    messages = [getattr(pb, e.event.type_url.rpartition(".")[2]).FromString(e.event.value) for e in told]
    assert [m.name for m in messages] == ["i", "i", "i", "j", "j"]
    assert dict(messages[0].labels) == {"k": "v"}
    assert dict(messages[1].labels) == {"k": "v", "n": "1"}, "the labels after the update"


@clause("IMG-023")
def test_a_name_in_two_namespaces_is_two_records(new_namespace, images):
    """Rejects: one space of names for all namespaces."""
    here, there, nowhere = new_namespace(), new_namespace(), new_namespace()
    images.create(here, Image("b", target()))
    other = images.create(there, Image("b", target(), {"k": "v"}))

    images.update(here, Image("b", target(), {"here": "1"}))
    assert (images.get(there, "b"), names(images, there)) == (other, ["b"])
    images.delete(here, "b")

    assert images.get(there, "b") == other
    for ctx in (here, nowhere):
        assert not exists(images, ctx, "b")
        assert images.list(ctx) == []


@clause("IMG-023")
def test_no_namespace_borrows_from_the_default_one(new_namespace, images, unique):
    """Rejects: a look into the namespace ``default`` when the caller's has no such image."""
    ctx, name = new_namespace(), unique("conformance.invalid/borrowed")
    shared = CallContext(namespace="default")
    images.create(shared, Image(name, target()))
    try:
        assert not exists(images, ctx, name)
        with pytest.raises(NotFound):
            images.delete(ctx, name)
        assert images.list(ctx) == []
    finally:
        images.delete(shared, name)


@clause("IMG-023")
@pytest.mark.parametrize(
    "namespace, error", [("", FailedPrecondition), ("a b", InvalidArgument)], ids=["none", "malformed"]
)
def test_every_call_needs_a_namespace(images, namespace, error):
    """Rejects: a default namespace for callers who name none."""
    ctx = CallContext(namespace=namespace)
    calls = (
        lambda: images.create(ctx, Image("b", target())),
        lambda: images.get(ctx, "b"),
        lambda: images.list(ctx),
        lambda: images.update(ctx, Image("b", target())),
        lambda: images.delete(ctx, "b"),
    )
    for call in calls:
        with pytest.raises(error):
            call()


@clause("IMG-024")
def test_records_survive_the_death_of_the_daemon(own):
    """Rejects: changes that are acknowledged before they are written."""
    instance = own()
    ctx = CallContext(namespace="alone")
    instance.images.create(ctx, Image("i", target(annotations={"an": "x"}), {"k": "v"}))
    changed = instance.images.update(ctx, Image("i", labels={"n": "1"}), ["labels.n"])
    made = instance.images.create(ctx, Image("j", target()))
    gone = instance.images.create(ctx, Image("gone", target()))
    instance.images.delete(ctx, gone.name)

    instance.restart(kill=True)

    assert instance.images.list(ctx) == [changed, made]
    assert instance.images.get(ctx, "i") == changed


@clause("IMG-025", needs={"config", "wire"})
def test_a_request_without_the_message_is_refused(own, recorder):
    """Rejects: a handler that reads the name of a message that is not there, and dies of it."""
    instance = own()
    wire = Wire(instance.address, recorder)
    try:
        for method, request in (("Create", pb.CreateImageRequest()), ("Update", pb.UpdateImageRequest())):
            answer = wire.call(f"{SERVICE}/{method}", request, namespace="alone")
            assert answer.code == "INVALID_ARGUMENT", f"{method}: {answer.code} {answer.message}"
        assert wire.call(f"{SERVICE}/List", pb.ListImagesRequest(), namespace="alone").ok, "the server goes on"
    finally:
        wire.close()


# ------------------------------------------------------------------------------------------------ what only 2.x knows


@clause("IMG-026")
def test_a_delete_may_name_the_target_it_means(ctx, images, wire):
    """Rejects: a delete that fails for another target and removes the image nevertheless, or the other way round."""
    made = images.create(ctx, Image("i", target()))
    other = _message(Image("i", target())).target

    answer = wire.call(f"{SERVICE}/Delete", pb.DeleteImageRequest(name="i", target=other), namespace=ctx.namespace)

    if answer.ok:
        # 1.6 does not know the field.
        assert not exists(images, ctx, "i")
        return
    assert answer.code == "NOT_FOUND"
    assert images.get(ctx, "i") == made
    right = pb.DeleteImageRequest(name="i", target=_message(made).target)
    assert wire.call(f"{SERVICE}/Delete", right, namespace=ctx.namespace).ok
    assert not exists(images, ctx, "i")


@clause("IMG-027")
def test_a_source_date_sets_both_times(ctx, images, wire):
    """Rejects: a creation time that follows the date and a time of update that does not."""
    epoch = 1_000_000
    request = pb.CreateImageRequest(image=_message(Image("i", target())), source_date_epoch=Timestamp(seconds=epoch))

    assert wire.call(f"{SERVICE}/Create", request, namespace=ctx.namespace).ok

    made = images.get(ctx, "i")
    assert made.created_at == made.updated_at
    if _near_now(made.created_at):
        return  # 1.6 does not know the field.
    assert made.created_at == epoch * SECOND
    again = pb.UpdateImageRequest(image=_message(made), source_date_epoch=Timestamp(seconds=1234))
    assert wire.call(f"{SERVICE}/Update", again, namespace=ctx.namespace).ok
    changed = images.get(ctx, "i")
    assert (changed.created_at, changed.updated_at) == (epoch * SECOND, 1234 * SECOND)


@clause("IMG-028")
def test_a_leased_image_does_not_expire(unleased, images, leases, collect):
    """Rejects: a lease that does not hold the image, or an expiry without leases to hold against it."""
    lease = leases.create(unleased)
    images.create(unleased, Image("expired", target(), EXPIRED))
    held = images.create(unleased.with_lease(lease.id), Image("held", target(), EXPIRED))

    collect(unleased)

    assert images.get(unleased, "held") == held
    expires = not exists(images, unleased, "expired")
    known = [Resource("held", "images")] if expires else []
    assert leases.list_resources(unleased, lease.id) == known, "2.x expires and leases images, 1.6 neither"


# ------------------------------------------------------------------------------------------------ what an image keeps


@clause("IMG-029")
def test_an_image_keeps_what_its_target_refers_to(unleased, content, images, leases):
    """Rejects: a mark that stops at the target itself."""
    leased = unleased.with_lease(leases.create(unleased).id)
    deep = store(content, leased, fresh())
    leaf = store(content, leased, fresh(), {f"{GC_CONTENT}.l.0": deep})
    manifest = store(content, leased, fresh(), {f"{GC_CONTENT}.0": leaf})
    loose = store(content, leased, fresh())
    images.create(unleased, Image("i", target(digest=manifest)))

    leases.delete(unleased, leased.lease, sync=True)

    assert [has(content, unleased, d) for d in (manifest, leaf, deep, loose)] == [True, True, True, False]


@clause("IMG-030", needs={"gc"})
def test_labels_of_an_image_keep_content_and_snapshots(unleased, content, images, leases, snapshotter, snapshotter_id):
    """Rejects: labels that count on blobs and not on image records."""
    leased = unleased.with_lease(leases.create(unleased).id)
    extra, plain, unheld = (store(content, leased, fresh()) for _ in range(3))
    for key in ("s1", "s2"):
        snapshotter.prepare(leased, key)
    labels = {f"{GC_CONTENT}.extra": extra, GC_CONTENT: plain, f"{GC_SNAPSHOT}.{snapshotter_id}": "s1"}
    images.create(unleased, Image("i", target(), labels))

    leases.delete(unleased, leased.lease, sync=True)
    assert [has(content, unleased, d) for d in (extra, plain, unheld)] == [True, True, False]
    assert set(tree(snapshotter, unleased)) == {"s1"}

    images.delete(unleased, "i", sync=True)
    assert not has(content, unleased, extra)
    assert tree(snapshotter, unleased) == {}


@clause("IMG-031")
def test_shared_content_goes_with_the_last_image(unleased, content, images, leases):
    """Rejects: a tag whose removal takes the content from under the others."""
    blobs = _kept(content, images, leases, unleased, "im")
    images.create(unleased, Image("im2", images.get(unleased, "im").target))

    images.delete(unleased, "im", sync=True)
    assert [has(content, unleased, digest) for digest in blobs] == [True, True]

    images.delete(unleased, "im2", sync=True)
    assert [has(content, unleased, digest) for digest in blobs] == [False, False]


@clause("IMG-031")
def test_an_image_that_moves_frees_its_old_target(unleased, content, images, leases, collect):
    """Rejects: a reference that is added by an update and never taken back."""
    blobs = _kept(content, images, leases, unleased, "imo")

    images.update(unleased, Image("imo", target()), ["target"])
    collect(unleased)

    assert [has(content, unleased, digest) for digest in blobs] == [False, False]


@clause("IMG-031")
def test_an_image_outlives_the_deletion_of_its_content(ctx, content, images, blob):
    """Rejects: records that are removed with their content, or content that cannot be deleted while it has a name."""
    digest = blob(fresh())
    made = images.create(ctx, Image("imz", target(digest=digest)))

    content.delete(ctx, digest)

    assert images.get(ctx, "imz") == made
