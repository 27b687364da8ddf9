"""Image records: what is stored, changed and refused (IMG-001 to 019, MET-041). Texts are the real daemon's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import encode_time
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.types import Descriptor
from refimpl.metadata.database import Database
from refimpl.metadata.images import ImageStore as Images
from tests.metadata.trees import dump, records

CTX = CallContext(namespace="t")
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha512:" + "b" * 128
TARGET = Descriptor("m", DIGEST, 415, {"an": "x", "empty": ""})
OTHER_TARGET = Descriptor("n", OTHER_DIGEST, 5)
IMAGE = Image("docker.io/library/a:1", TARGET, {"k": "v", "empty": ""}, created_at=5, updated_at=6)


@pytest.fixture
def images(database: Database) -> ImageStore:
    return Images(database)


def test_create_stores_what_it_answers_with_and_takes_the_time_from_the_clock(
    images: ImageStore, clock: FakeClock
) -> None:
    created = images.create(CTX, IMAGE)

    target = Descriptor("m", DIGEST, 415, {"an": "x"})
    assert created == Image(IMAGE.name, target, {"k": "v"}, clock.now(), clock.now())
    assert images.get(CTX, IMAGE.name) == created


def test_a_record_is_on_disk_as_containerd_writes_it(images: ImageStore, store: MemoryStore, clock: FakeClock) -> None:
    images.create(CTX, IMAGE)
    images.create(CTX, Image("bare", OTHER_TARGET))

    now = encode_time(clock.now())
    assert records(store, "t", "images") == {
        "bare": {
            "createdat": now,
            "updatedat": now,
            "target": {"digest": OTHER_DIGEST.encode(), "mediatype": b"n", "size": b"\x0a"},
        },
        "docker.io/library/a:1": {
            "createdat": now,
            "updatedat": now,
            "target": {"digest": DIGEST.encode(), "mediatype": b"m", "size": b"\xbe\x06"},
            "labels": {"k": b"v"},
            "annotations": {"an": b"x"},
        },
    }


def test_a_name_can_be_created_once_in_a_namespace(images: ImageStore) -> None:
    first = images.create(CTX, IMAGE)

    with pytest.raises(AlreadyExists) as refused:
        images.create(CTX, replace(IMAGE, target=OTHER_TARGET))

    assert str(refused.value) == 'image "docker.io/library/a:1": already exists'
    assert images.get(CTX, IMAGE.name) == first
    assert images.create(CTX.with_namespace("u"), IMAGE).name == IMAGE.name


@pytest.mark.parametrize("name", [" ", "a b", "../../x", "UPPER:tag", "sha256:abc", "\n", "ünï", "x" * 33000])
def test_any_name_but_none_is_a_name(images: ImageStore, name: str) -> None:
    images.create(CTX, replace(IMAGE, name=name))

    assert images.get(CTX, name).name == name
    images.delete(CTX, name)
    assert images.list(CTX) == []


@pytest.mark.parametrize(
    "change,error,text",
    [
        ({"name": ""}, InvalidArgument, "Image.Name required"),
        (
            {"target": replace(TARGET, digest="")},
            InvalidArgument,
            'Target.Digest "" invalid: invalid checksum digest format: invalid argument',
        ),
        (
            {"target": replace(TARGET, digest="sha256:zz")},
            InvalidArgument,
            'Target.Digest "sha256:zz" invalid: invalid checksum digest length: invalid argument',
        ),
        (
            {"target": replace(TARGET, digest="md5:" + "0" * 32)},
            InvalidArgument,
            f'Target.Digest "md5:{"0" * 32}" invalid: unsupported digest algorithm: invalid argument',
        ),
        (
            {"target": replace(TARGET, size=0)},
            InvalidArgument,
            "Target.Size must be greater than zero: invalid argument",
        ),
        (
            {"target": replace(TARGET, size=-1)},
            InvalidArgument,
            "Target.Size must be greater than zero: invalid argument",
        ),
        ({"target": replace(TARGET, media_type="")}, InvalidArgument, "Target.MediaType must be set: invalid argument"),
        (
            {"labels": {"k": "v" * 4096}},
            InvalidArgument,
            "image.Labels: label key and value greater than maximum size (4096 bytes), key: k: invalid argument",
        ),
        (
            {"labels": {"": "v"}},
            Unknown,
            'writing labels for image docker.io/library/a:1: failed to set label ""="v": key required',
        ),
        (
            {"target": replace(TARGET, annotations={"": "v"})},
            Unknown,
            'writing Annotations for image docker.io/library/a:1: failed to set label ""="v": key required',
        ),
    ],
)
def test_a_record_that_cannot_be_is_refused_and_leaves_no_trace(
    images: ImageStore, store: MemoryStore, change: dict[str, object], error: type[ContainerdError], text: str
) -> None:
    with pytest.raises(error) as refused:
        images.create(CTX, replace(IMAGE, **change))  # type: ignore[arg-type]  # fields by name

    assert str(refused.value) == text
    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_annotations_have_no_limit(images: ImageStore) -> None:
    long = replace(TARGET, annotations={"k": "v" * 100_000})

    assert images.create(CTX, replace(IMAGE, target=long)).target.annotations == {"k": "v" * 100_000}


@pytest.mark.parametrize("name", ["b", "b:1", "", "nope"])
def test_names_are_compared_as_they_are(images: ImageStore, name: str) -> None:
    images.create(CTX, replace(IMAGE, name="docker.io/library/b:1"))

    for call in (images.get, images.delete):
        with pytest.raises(NotFound) as refused:
            call(CTX, name)
        assert str(refused.value) == f'image "{name}": not found'


def test_a_list_is_in_byte_order(images: ImageStore) -> None:
    names = ["quay.io/c@sha256:1", "docker.io/library/b:1", "b", "Z", "é", "docker.io/library/a:1"]
    for name in names:
        images.create(CTX, replace(IMAGE, name=name))

    assert [image.name for image in images.list(CTX)] == sorted(names, key=str.encode)
    assert images.list(CTX.with_namespace("unused")) == []


@pytest.mark.parametrize(
    "filters,names",
    [
        ([""], ["a", "b"]),
        (["name==a"], ["a"]),
        (["name.ignored==a"], ["a"]),
        (["name!=a"], ["b"]),
        (["name~=[ab]"], ["a", "b"]),
        ([f"target.digest=={DIGEST}"], ["a"]),
        (["target.mediatype==n"], ["b"]),
        (["annotations.an==x"], ["a"]),
        (["labels.k", "name==b"], ["a", "b"]),
        (["labels.k==v,name==b"], []),
        (["target"], []),
        (["target.size==5"], []),
        (["target.mediaType==m"], []),
        (["target.annotations.an==x"], []),
        (["annotations"], []),
        (["bogus"], []),
        (["bogus!=x"], ["a", "b"]),
    ],
)
def test_filters_see_name_target_labels_and_annotations(
    images: ImageStore, filters: list[str], names: list[str]
) -> None:
    images.create(CTX, replace(IMAGE, name="a"))
    images.create(CTX, Image("b", OTHER_TARGET))

    assert [image.name for image in images.list(CTX, filters)] == names


def test_a_filter_that_does_not_parse_is_refused_with_the_text_twice_invalid(images: ImageStore) -> None:
    with pytest.raises(InvalidArgument) as refused:
        images.list(CTX, ["x="])

    text = 'filters: parse error: [x >|=|< ]: unsupported operator "=": invalid argument: invalid argument'
    assert str(refused.value) == text


@pytest.mark.parametrize(
    "paths,labels,target",
    [
        (["labels.n"], {"k": "v", "n": "1"}, Descriptor("m", DIGEST, 415, {"an": "x"})),
        (["labels.k"], {}, Descriptor("m", DIGEST, 415, {"an": "x"})),
        (["labels"], {"n": "1"}, Descriptor("m", DIGEST, 415, {"an": "x"})),
        (["annotations.b"], {"k": "v"}, Descriptor("m", DIGEST, 415, {"an": "x", "b": "2"})),
        (["annotations"], {"k": "v"}, Descriptor("m", DIGEST, 415, {"b": "2"})),
        (["target"], {"k": "v"}, Descriptor("n", OTHER_DIGEST, 5, {"b": "2"})),
        (["target", "labels.n"], {"k": "v", "n": "1"}, Descriptor("n", OTHER_DIGEST, 5, {"b": "2"})),
        ([], {"n": "1"}, Descriptor("n", OTHER_DIGEST, 5, {"b": "2"})),
    ],
)
def test_an_update_changes_what_its_paths_name(
    images: ImageStore, clock: FakeClock, paths: list[str], labels: dict[str, str], target: Descriptor
) -> None:
    created = images.create(CTX, IMAGE)
    clock.advance(1)

    wanted = Image(IMAGE.name, replace(OTHER_TARGET, annotations={"b": "2"}), {"n": "1"})
    updated = images.update(CTX, wanted, paths)

    assert updated == Image(IMAGE.name, target, labels, created.created_at, clock.now())
    assert images.get(CTX, IMAGE.name) == updated


@pytest.mark.parametrize("path", ["name", "size", "target.digest", "created_at", "", "bogus", "Labels"])
def test_an_update_with_another_path_changes_nothing(images: ImageStore, path: str) -> None:
    created = images.create(CTX, IMAGE)

    with pytest.raises(InvalidArgument) as refused:
        images.update(CTX, replace(IMAGE, labels={"a": "1"}), ["labels.a", path])

    assert str(refused.value) == f'cannot update "{path}" field on image "{IMAGE.name}": invalid argument'
    assert images.get(CTX, IMAGE.name) == created


def test_an_update_is_judged_by_its_result(images: ImageStore) -> None:
    images.create(CTX, IMAGE)
    bad = Image(IMAGE.name, Descriptor(digest="bad"), {"q": "1"})

    assert images.update(CTX, bad, ["labels.q"]).labels == {"k": "v", "q": "1"}
    with pytest.raises(InvalidArgument, match=r'Target\.Digest "bad" invalid'):
        images.update(CTX, bad, ["target"])


def test_an_update_does_not_create(images: ImageStore, store: MemoryStore) -> None:
    with pytest.raises(NotFound) as missing:
        images.update(CTX, replace(IMAGE, name="no"))
    with pytest.raises(InvalidArgument) as nameless:
        images.update(CTX, replace(IMAGE, name=""))

    assert (str(missing.value), str(nameless.value)) == ('image "no": not found', "Image.Name required")
    assert dump(store) == {"v1": {"version": b"\x06"}}


def test_an_update_keeps_what_a_newer_release_wrote(images: ImageStore, database: Database) -> None:
    images.create(CTX, IMAGE)
    with database.update() as v1:
        record = v1.bucket(b"t").bucket(b"images").bucket(IMAGE.name.encode())  # type: ignore[union-attr]  # just made
        assert record is not None
        record.put(b"future", b"zzz")

    images.update(CTX, IMAGE)

    with database.view() as v1:
        record = v1.bucket(b"t").bucket(b"images").bucket(IMAGE.name.encode())  # type: ignore[union-attr]  # still there
        assert record is not None
        assert record.get(b"future") == b"zzz"


def test_a_deletion_is_one_for_the_collector_and_a_failed_one_is_not(images: ImageStore, database: Database) -> None:
    images.create(CTX, IMAGE)

    with pytest.raises(NotFound):
        images.delete(CTX, "nope", sync=True)
    before = database.dirty
    images.delete(CTX, IMAGE.name)

    assert (before, database.dirty) == (False, True)


def test_a_missing_name_is_told_before_a_missing_namespace(images: ImageStore) -> None:
    nameless = replace(IMAGE, name="")
    for call in (images.create, images.update):
        with pytest.raises(InvalidArgument, match=r"^Image.Name required$"):
            call(CallContext(), nameless)


def test_every_call_needs_a_valid_namespace(images: ImageStore) -> None:
    for namespace, error in (("", FailedPrecondition), ("a b", InvalidArgument)):
        ctx = CallContext(namespace=namespace)
        with pytest.raises(error):
            images.get(ctx, "a")
        with pytest.raises(error):
            images.list(ctx)
        with pytest.raises(error):
            images.create(ctx, IMAGE)
        with pytest.raises(error):
            images.update(ctx, IMAGE)
        with pytest.raises(error):
            images.delete(ctx, "a")


def test_the_namespace_version_cannot_be_written_to(images: ImageStore, store: MemoryStore) -> None:
    with pytest.raises(Unknown) as refused:
        images.create(CTX.with_namespace("version"), IMAGE)

    assert str(refused.value) == "incompatible value"
    assert dump(store) == {"v1": {"version": b"\x06"}}
