"""Services over records: what each change tells, in which namespace, and when nothing is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as ProtoAny

from refimpl.api import event_types_pb2 as types
from refimpl.api import images_v1_pb2
from refimpl.backends.fake.clock import FakeClock
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, NotFound, Unknown
from refimpl.contract.gc import CollectionStats
from refimpl.contract.images import Image
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.namespaces import Namespace
from refimpl.contract.snapshots import Cleaner, Info
from refimpl.contract.types import TypedAny
from refimpl.services.containers import ContainersService
from refimpl.services.content import ContentService
from refimpl.services.images import ImagesService
from refimpl.services.leases import LeasesService, draw_id
from refimpl.services.namespaces import NamespacesService
from refimpl.services.snapshots import TellingSnapshotter
from tests.services.fakes import Bus, Scheduler, Store

NS = CallContext(namespace="ns")


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_container_changes_are_told_with_the_stored_values(bus: Bus) -> None:
    stored = Container(
        "c", labels={"a": "b"}, image="img", runtime=RuntimeInfo("rt", TypedAny("t", b"o")), snapshot_key="k"
    )
    service = ContainersService(Store(create=stored, update=stored), bus)
    service.create(NS, Container("c"))
    service.update(NS, Container("c"), ["labels"])
    service.delete(NS, "c")
    runtime = types.ContainerCreate.Runtime(name="rt", options=ProtoAny(type_url="t", value=b"o"))
    assert bus.told == [
        ("ns", "/containers/create", types.ContainerCreate(id="c", image="img", runtime=runtime)),
        (
            "ns",
            "/containers/update",
            types.ContainerUpdate(id="c", image="img", labels={"a": "b"}, snapshot_key="k"),
        ),
        ("ns", "/containers/delete", types.ContainerDelete(id="c")),
    ]


def test_image_changes_are_told_under_the_package_of_their_service(bus: Bus) -> None:
    stored = Image("i", labels={"after": "change"})
    service = ImagesService(Store(create=stored, update=stored), Scheduler(bus), bus)
    service.create(NS, Image("i"))
    service.update(NS, Image("i"))
    service.delete(NS, "i")
    assert bus.told == [
        ("ns", "/images/create", images_v1_pb2.ImageCreate(name="i", labels={"after": "change"})),
        ("ns", "/images/update", images_v1_pb2.ImageUpdate(name="i", labels={"after": "change"})),
        ("ns", "/images/delete", images_v1_pb2.ImageDelete(name="i")),
    ]


def test_a_synchronous_image_deletion_is_told_before_it_waits_for_the_collector(bus: Bus) -> None:
    scheduler = Scheduler(bus)
    ImagesService(Store(), scheduler, bus).delete(NS, "i", sync=True)
    assert scheduler.asked == [1]


def test_images_work_without_a_bus() -> None:
    service = ImagesService(Store(create=Image("i")), Scheduler(Bus()), None)
    assert service.create(NS, Image("i")) == Image("i")


def test_content_tells_deletions_only(bus: Bus) -> None:
    service = ContentService(Store(), bus)
    service.writer(NS, "ref")
    service.update(NS, Any)  # type: ignore[arg-type]  # the store does not look
    service.abort(NS, "ref")
    assert bus.told == []
    service.delete(NS, "sha256:x")
    assert bus.told == [("ns", "/content/delete", types.ContentDelete(digest="sha256:x"))]


def test_snapshots_tell_prepare_commit_and_remove_with_the_clients_keys(bus: Bus) -> None:
    service = TellingSnapshotter(Store(prepare=[]), bus)
    service.prepare(NS, "k", "p")
    service.view(NS, "v", "p")
    service.update(NS, Info("k"))
    service.mounts(NS, "k")
    service.usage(NS, "k")
    service.commit(NS, "n", "k")
    service.remove(NS, "v")
    assert bus.told == [
        ("ns", "/snapshot/prepare", types.SnapshotPrepare(key="k", parent="p")),
        ("ns", "/snapshot/commit", types.SnapshotCommit(key="k", name="n")),
        ("ns", "/snapshot/remove", types.SnapshotRemove(key="v")),
    ]


def test_a_namespaced_snapshotter_hides_whether_it_can_clean_up(bus: Bus) -> None:
    assert not isinstance(TellingSnapshotter(Store(), bus), Cleaner)


def test_namespaces_are_told_in_the_callers_namespace_and_their_end_in_their_own(bus: Bus) -> None:
    sent = Namespace("m", {"a": "b", "empty": ""})
    service = NamespacesService(Store(create=Namespace("m", {"a": "b"})), bus)
    service.create(NS, sent)
    service.update(NS, sent, ["labels.a"])
    service.delete(NS, "m")
    labels = {"a": "b", "empty": ""}
    assert bus.told == [
        ("ns", "/namespaces/create", types.NamespaceCreate(name="m", labels=labels)),
        ("ns", "/namespaces/update", types.NamespaceUpdate(name="m", labels=labels)),
        ("m", "/namespaces/delete", types.NamespaceDelete(name="m")),
    ]


@pytest.mark.parametrize("header", ["", "a b"])
def test_without_a_usable_header_a_namespace_is_told_in_itself(bus: Bus, header: str) -> None:
    service = NamespacesService(Store(), bus)
    ctx = CallContext(namespace=header)
    service.create(ctx, Namespace("m"))
    service.update(ctx, Namespace("m"))
    assert [(namespace, topic) for namespace, topic, _ in bus.told] == [
        ("m", "/namespaces/create"),
        ("m", "/namespaces/update"),
    ]


def test_a_namespace_in_which_nothing_can_be_told_is_reported_as_such(bus: Bus) -> None:
    with pytest.raises(Unknown):
        NamespacesService(Store(), bus).update(CallContext(), Namespace("bad/ns", {"a": "b"}))
    NamespacesService(Store(), bus).update(CallContext(), Namespace(""))
    assert bus.told == []


GONE = NotFound("gone")


def test_a_change_that_fails_is_not_told_and_starts_no_collection(bus: Bus) -> None:
    refusing = Store(create=GONE, update=GONE, delete=GONE, prepare=GONE, commit=GONE, remove=GONE)
    scheduler = Scheduler(bus)
    containers, images = ContainersService(refusing, bus), ImagesService(refusing, scheduler, bus)
    namespaces, snapshots = NamespacesService(refusing, bus), TellingSnapshotter(refusing, bus)
    leases = LeasesService(refusing, scheduler, lambda: "drawn")
    attempts: list[Callable[[], object]] = [
        lambda: containers.create(NS, Container("c")),
        lambda: containers.update(NS, Container("c")),
        lambda: containers.delete(NS, "c"),
        lambda: images.create(NS, Image("i")),
        lambda: images.update(NS, Image("i")),
        lambda: images.delete(NS, "i", sync=True),
        lambda: ContentService(refusing, bus).delete(NS, "d"),
        lambda: namespaces.create(NS, Namespace("n")),
        lambda: namespaces.update(NS, Namespace("n")),
        lambda: namespaces.delete(NS, "n"),
        lambda: snapshots.prepare(NS, "k"),
        lambda: snapshots.commit(NS, "n", "k"),
        lambda: snapshots.remove(NS, "k"),
        lambda: leases.delete(NS, "l", sync=True),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            attempt()
    assert bus.told == []
    assert scheduler.asked == []


def test_a_lease_without_an_id_gets_a_drawn_one(bus: Bus) -> None:
    store = Store(create=Lease("x"))
    service = LeasesService(store, Scheduler(bus), lambda: "drawn")
    service.create(NS)
    service.create(NS, "mine", {"a": "b"})
    assert [call[1][1] for call in store.calls] == ["drawn", "mine"]


def test_drawn_lease_ids_are_nanoseconds_and_chance() -> None:
    clock = FakeClock()
    clock.advance(1.5)
    drawn = {draw_id(clock) for _ in range(100)}
    assert all(re.fullmatch(r"500000000-[A-Za-z0-9_-]{4}", each) for each in drawn)
    assert len(drawn) > 90


def test_a_synchronous_lease_deletion_waits_after_the_lease_is_gone(bus: Bus) -> None:
    class Late(Scheduler):
        def schedule_and_wait(self, ctx: CallContext) -> CollectionStats:
            raise DeadlineExceeded

    store = Store()
    with pytest.raises(DeadlineExceeded):
        LeasesService(store, Late(bus), lambda: "").delete(NS, "l", sync=True)
    assert [call[0] for call in store.calls] == ["delete"]
    assert bus.told == []


def test_reading_calls_go_straight_through(bus: Bus) -> None:
    answers = Store(
        get="got", list=["listed"], info="info", walk=iter("w"), reader="reader", status="status", stat="stat",
        list_statuses=["statuses"], list_resources=["resources"], usage="usage", mounts=["mounts"],
    )  # fmt: skip
    scheduler = Scheduler(bus)
    # What comes back is nothing but a mark here, so the types have no say.
    containers: Any = ContainersService(answers, bus)
    images: Any = ImagesService(answers, scheduler, bus)
    content: Any = ContentService(answers, bus)
    namespaces: Any = NamespacesService(answers, bus)
    snapshots: Any = TellingSnapshotter(answers, bus)
    leases: Any = LeasesService(answers, scheduler, lambda: "")
    for records in (containers, images, namespaces):
        assert records.get(NS, "x") == "got"
    for filtered in (containers, images, leases):
        assert filtered.list(NS, ["f"]) == ["listed"]
    assert namespaces.list(NS) == ["listed"]
    assert (content.info(NS, "d"), content.reader(NS, "d"), content.status(NS, "r")) == ("info", "reader", "status")
    assert (content.list_statuses(NS), leases.list_resources(NS, "l")) == (["statuses"], ["resources"])
    assert (snapshots.stat(NS, "k"), snapshots.usage(NS, "k")) == ("stat", "usage")
    assert snapshots.mounts(NS, "k") == ["mounts"]
    assert list(content.walk(NS)) == ["w"]
    assert list(snapshots.walk(NS)) == []
    leases.add_resource(NS, "l", Resource("i", "content"))
    leases.delete_resource(NS, "l", Resource("i", "content"))
    assert answers.calls[-1] == ("delete_resource", (NS, "l", Resource("i", "content")), {})
    snapshots.close()
