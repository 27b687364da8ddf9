"""Values survive the way to the wire and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refimpl.contract import content, snapshots
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.events import Envelope
from refimpl.contract.images import Image
from refimpl.contract.introspection import PluginError, PluginInfo
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.mounts import Mount
from refimpl.contract.namespaces import Namespace
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import Descriptor, Platform, TypedAny
from refimpl.grpc import convert

# Protobuf text holds every character but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
labels = st.dictionaries(texts, texts, max_size=3)
anys = st.builds(TypedAny, texts, st.binary(max_size=20))
sizes = st.integers(-(2**63), 2**63 - 1)
descriptors = st.builds(Descriptor, texts, texts, sizes, labels)
moments = st.integers(ZERO_TIME, 253_402_300_799 * SECOND)


@given(moments)
def test_times_keep_their_nanoseconds(moment: int) -> None:
    assert convert.time_from(convert.time_to(moment)) == moment
    assert 0 <= convert.time_to(moment).nanos < SECOND


def test_no_timestamp_is_the_year_one() -> None:
    assert convert.time_to(ZERO_TIME).seconds == -62135596800


@given(anys)
def test_typed_values_keep_their_bytes(value: TypedAny) -> None:
    assert convert.any_from(convert.any_to(value)) == value


@given(descriptors)
def test_descriptors_find_back(value: Descriptor) -> None:
    assert convert.descriptor_from(convert.descriptor_to(value)) == value


@given(st.lists(st.builds(Mount, texts, texts, texts, st.lists(texts, max_size=3).map(tuple)), max_size=3))
def test_mounts_find_back_in_order(values: list[Mount]) -> None:
    assert convert.mounts_from(convert.mounts_to(values)) == values


@given(
    st.builds(
        Container,
        id=texts,
        labels=labels,
        image=texts,
        runtime=st.builds(RuntimeInfo, texts, st.none() | anys),
        spec=st.none() | anys,
        snapshotter=texts,
        snapshot_key=texts,
        created_at=st.just(0),
        updated_at=st.just(0),
        extensions=st.dictionaries(texts, anys, max_size=2),
    )
)
def test_containers_find_back_with_absent_and_empty_values_apart(value: Container) -> None:
    assert convert.container_from(convert.container_to(value)) == value


def test_what_the_server_decides_is_not_taken_from_the_client() -> None:
    sent = convert.container_to(Container("c", created_at=5, updated_at=6, sandbox_id="s"))
    assert convert.container_from(sent) == Container("c")
    assert convert.image_from(convert.image_to(Image("i", created_at=5, updated_at=6))) == Image("i")
    blob = convert.blob_from(convert.blob_to(content.Info("d", 1, 5, 6)))
    assert (blob.created_at, blob.updated_at) == (0, 0)
    snapshot = convert.snapshot_from(convert.snapshot_to(snapshots.Info("s", kind=snapshots.Kind.VIEW, created_at=5)))
    assert (snapshot.kind, snapshot.created_at) == (snapshots.Kind.UNKNOWN, 0)


@given(texts, descriptors, labels)
def test_images_find_back(name: str, target: Descriptor, given_labels: dict[str, str]) -> None:
    value = Image(name, target, given_labels)
    assert convert.image_from(convert.image_to(value)) == value


@given(moments, texts, texts, anys)
def test_envelopes_find_back(moment: int, namespace: str, topic: str, event: TypedAny) -> None:
    value = Envelope(moment, namespace, topic, event)
    assert convert.envelope_from(convert.envelope_to(value)) == value


def test_small_values_are_carried_field_by_field() -> None:
    assert convert.namespace_from(convert.namespace_to(Namespace("n", {"a": ""}))) == Namespace("n", {"a": ""})
    assert convert.resource_from(convert.resource_to(Resource("i", "content"))) == Resource("i", "content")
    lease = convert.lease_to(Lease("l", 5, {"a": "b"}))
    assert (lease.id, lease.created_at.nanos, dict(lease.labels)) == ("l", 5, {"a": "b"})
    ingest = convert.ingest_to(content.Status("r", 1, 2, "e", 3, 4))
    assert (ingest.ref, ingest.offset, ingest.total, ingest.expected) == ("r", 1, 2, "e")
    assert (ingest.started_at.nanos, ingest.updated_at.nanos) == (3, 4)
    for kind in snapshots.Kind:
        assert convert.snapshot_to(snapshots.Info("s", kind=kind)).kind == kind.value


def test_a_plugin_that_works_has_no_error_on_the_wire() -> None:
    works = convert.plugin_to(PluginInfo("t", "i", ("a",), (Platform("linux", "arm", "v7"),), {"root": "/r"}, ("c",)))
    assert not works.HasField("init_err")
    assert (works.platforms[0].variant, list(works.requires), dict(works.exports)) == ("v7", ["a"], {"root": "/r"})
    failed = convert.plugin_to(PluginInfo("t", "i", init_err=PluginError(9, "no")))
    assert (failed.init_err.code, failed.init_err.message) == (9, "no")
