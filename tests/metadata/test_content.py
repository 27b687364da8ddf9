"""Content by namespace: records, ingests, sharing, leases (refimpl.metadata.content, refimpl.metadata.writer)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.content import MemoryContent
from refimpl.contract.content import EMPTY_DIGEST, Info, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from refimpl.contract.leases import Resource
from refimpl.contract.namespaces import Namespace
from refimpl.metadata import buckets
from refimpl.metadata.content import INGEST_LIFETIME, ISOLATED
from tests.metadata.world import CTX, OTHER, World, digest_of, make_world

HELLO = b"hello world"
DIGEST = digest_of(HELLO)


@pytest.fixture
def world() -> World:
    return make_world()


def _ingest(world: World, ref: str, data: bytes = HELLO, ctx: CallContext = CTX, **wanted: object) -> Writer:
    writer = world.metadata.content.writer(ctx, ref, **wanted)  # type: ignore[arg-type]  # total and expected
    writer.write(data)
    return writer


def test_a_committed_blob_has_a_record_with_the_time_of_the_commit(world: World) -> None:
    writer = _ingest(world, "r")
    world.clock.advance(5)
    writer.commit(CTX, len(HELLO), DIGEST, {"a": "b", "dropped": ""})

    now = world.clock.now()
    assert world.metadata.content.info(CTX, DIGEST) == Info(DIGEST, len(HELLO), now, now, {"a": "b"})
    reader = world.metadata.content.reader(CTX, DIGEST)
    assert (reader.size, reader.read_at(0, 100)) == (len(HELLO), HELLO)
    with pytest.raises(NotFound, match=r"^reference r: not found$"):
        world.metadata.content.status(CTX, "r")


def test_the_empty_blob_can_be_committed(world: World) -> None:
    world.metadata.content.writer(CTX, "r").commit(CTX)
    assert world.metadata.content.info(CTX, EMPTY_DIGEST).size == 0


def test_records_exist_in_the_namespace_that_committed_them_alone(world: World) -> None:
    world.blob(HELLO)
    content = world.metadata.content
    calls: list[Callable[[], object]] = [
        lambda: content.info(OTHER, DIGEST),
        lambda: content.reader(OTHER, DIGEST),
        lambda: content.update(OTHER, Info(DIGEST)),
        lambda: content.delete(OTHER, DIGEST),
    ]
    for call in calls:
        with pytest.raises(NotFound, match=rf"^content digest {DIGEST}: not found$"):
            call()
    assert list(content.walk(OTHER)) == []


def test_labels_are_kept_for_each_namespace(world: World) -> None:
    world.blob(HELLO, CTX, {"of": "t"})
    world.blob(HELLO, OTHER, {"of": "other"})
    world.metadata.content.update(CTX, Info(DIGEST, labels={"new": "1"}))
    assert world.metadata.content.info(CTX, DIGEST).labels == {"new": "1"}
    assert world.metadata.content.info(OTHER, DIGEST).labels == {"of": "other"}
    assert world.backend_digests() == [DIGEST]


@pytest.mark.parametrize(
    "digest", ["", "x", "sha256:", "sha256:ab", f"sha256:{'A' * 64}", "md5:" + "0" * 32, "../etc/passwd"]
)
def test_what_is_no_digest_is_refused_by_every_call(world: World, digest: str) -> None:
    content = world.metadata.content
    calls: list[Callable[[], object]] = [
        lambda: content.info(CTX, digest),
        lambda: content.reader(CTX, digest),
        lambda: content.update(CTX, Info(digest)),
        lambda: content.delete(CTX, digest),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            call()


@pytest.mark.parametrize("namespace, kind", [("", FailedPrecondition), ("-", InvalidArgument)])
def test_every_call_needs_a_valid_namespace(world: World, namespace: str, kind: type[ContainerdError]) -> None:
    content, ctx = world.metadata.content, CallContext(namespace)
    calls: list[Callable[[], object]] = [
        lambda: content.info(ctx, DIGEST),
        lambda: content.reader(ctx, DIGEST),
        lambda: content.update(ctx, Info(DIGEST)),
        lambda: content.delete(ctx, DIGEST),
        lambda: content.walk(ctx),
        lambda: content.status(ctx, "r"),
        lambda: content.list_statuses(ctx),
        lambda: content.writer(ctx, "r"),
        lambda: content.abort(ctx, "r"),
    ]
    for call in calls:
        with pytest.raises(kind):
            call()


class TestUpdate:
    @pytest.mark.parametrize(
        "paths, expected",
        [
            ((), {"b": "2", "c.d/e": "3"}),
            (("labels",), {"b": "2", "c.d/e": "3"}),
            (("labels.b",), {"a": "1", "b": "2"}),
            (("labels.c.d/e", "labels.a"), {"c.d/e": "3"}),
            (("labels.",), {"a": "1"}),
        ],
    )
    def test_paths_choose_the_labels_that_are_taken_over(
        self, world: World, paths: tuple[str, ...], expected: dict[str, str]
    ) -> None:
        world.blob(HELLO, labels={"a": "1"})
        before = world.metadata.content.info(CTX, DIGEST)
        world.clock.advance(1)
        wanted = Info(DIGEST, 99, 1, 1, {"b": "2", "c.d/e": "3"})
        after = world.metadata.content.update(CTX, wanted, paths)
        assert after == Info(DIGEST, len(HELLO), before.created_at, world.clock.now(), expected)
        assert world.metadata.content.info(CTX, DIGEST) == after

    @pytest.mark.parametrize("path", ["size", "digest", "", "Labels", "label.a"])
    def test_any_other_path_is_refused_and_changes_nothing(self, world: World, path: str) -> None:
        world.blob(HELLO, labels={"a": "1"})
        before = world.metadata.content.info(CTX, DIGEST)
        world.clock.advance(1)
        with pytest.raises(InvalidArgument) as caught:
            world.metadata.content.update(CTX, Info(DIGEST, labels={"a": "2"}), ["labels.a", path])
        assert str(caught.value) == f'cannot update "{path}" field on content info "{DIGEST}": invalid argument'
        assert world.metadata.content.info(CTX, DIGEST) == before

    def test_a_label_may_take_4096_bytes_and_no_more(self, world: World) -> None:
        world.blob(HELLO)
        world.metadata.content.update(CTX, Info(DIGEST, labels={"k": "v" * 4095}))
        with pytest.raises(InvalidArgument):
            world.metadata.content.update(CTX, Info(DIGEST, labels={"k": "v" * 4096}))

    def test_a_label_without_a_key_is_refused(self, world: World) -> None:
        world.blob(HELLO)
        with pytest.raises(Unknown, match=rf"^writing labels for info {DIGEST}: .*key required$"):
            world.metadata.content.update(CTX, Info(DIGEST, labels={"": "v"}))


class TestWalk:
    def test_blobs_come_in_the_order_of_their_digests(self, world: World) -> None:
        digests = [world.blob(bytes([number])) for number in range(20)]
        assert [info.digest for info in world.metadata.content.walk(CTX)] == sorted(digests)

    @pytest.mark.parametrize(
        "filters, expected",
        [
            (["digest"], {"a", "b"}),
            (["labels.x==1"], {"a"}),
            (["labels.x!=1"], {"b"}),
            (["labels.x==1", "labels.y==2"], {"a", "b"}),
            (["labels.x==1,labels.y==2"], set()),
            (["labels"], set()),
            (["size"], set()),
            (["size!=1"], {"a", "b"}),
            ([""], {"a", "b"}),
        ],
    )
    def test_filters_know_digest_and_labels(self, world: World, filters: list[str], expected: set[str]) -> None:
        names = {world.blob(b"a", labels={"x": "1"}): "a", world.blob(b"b", labels={"y": "2"}): "b"}
        assert {names[info.digest] for info in world.metadata.content.walk(CTX, filters)} == expected

    def test_a_filter_that_does_not_parse_is_refused_before_anything_is_given(self, world: World) -> None:
        with pytest.raises(InvalidArgument):
            world.metadata.content.walk(CTX, ["digest", "labels.x="])
        with pytest.raises(InvalidArgument):
            world.metadata.content.list_statuses(CTX, ["ref="])


class TestIngests:
    def test_the_back_end_sees_namespace_number_and_ref(self, world: World) -> None:
        for ctx in (CTX, OTHER):
            _ingest(world, "a/b c", ctx=ctx).close()
        refs = sorted(status.ref for status in world.backend.list_statuses(CallContext()))
        assert refs == ["other/1/a/b c", "t/1/a/b c"]
        assert [status.ref for status in world.metadata.content.list_statuses(CTX)] == ["a/b c"]

    def test_an_ingest_goes_on_where_it_stood(self, world: World) -> None:
        _ingest(world, "r", b"hello ").close()
        writer = world.metadata.content.writer(CTX, "r")
        assert (writer.status().ref, writer.status().offset, writer.digest()) == ("r", 6, digest_of(b"hello "))
        writer.write(b"world")
        writer.commit(CTX, 11, DIGEST)
        assert world.metadata.content.info(CTX, DIGEST).size == 11

    def test_a_ref_has_one_writer(self, world: World) -> None:
        with_lock = _ingest(world, "r")
        with pytest.raises(Unavailable):
            world.metadata.content.writer(CTX, "r")
        with_lock.commit(CTX)

    def test_an_empty_ref_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidArgument, match=r"^ref must not be empty: invalid argument$"):
            world.metadata.content.writer(CTX, "")

    def test_an_opening_that_the_back_end_refuses_leaves_no_record(self, world: World) -> None:
        world.backend.writer(CallContext(), "t/1/r")
        with pytest.raises(Unavailable):
            world.metadata.content.writer(CTX, "r")
        with pytest.raises(NotFound):
            world.metadata.content.abort(CTX, "r")
        assert world.metadata.namespaces.list(CTX) == []

    def test_statuses_are_filtered_by_ref_alone(self, world: World) -> None:
        for ref in ("a", "b"):
            _ingest(world, ref).close()
        content = world.metadata.content
        assert [status.ref for status in content.list_statuses(CTX, ["ref==a"])] == ["a"]
        assert [status.ref for status in content.list_statuses(CTX, ["ref~=^[ab]$"])] == ["a", "b"]
        assert content.list_statuses(CTX, ["offset==11"]) == []

    def test_abort_removes_an_ingest_once(self, world: World) -> None:
        _ingest(world, "r").close()
        world.metadata.content.abort(CTX, "r")
        for _ in range(2):
            with pytest.raises(NotFound, match=r"^reference r: not found$"):
                world.metadata.content.abort(CTX, "r")
        assert world.backend.list_statuses(CallContext()) == []
        assert world.metadata.content.writer(CTX, "r").status().offset == 0

    def test_a_writer_that_was_aborted_cannot_commit(self, world: World) -> None:
        writer = _ingest(world, "r")
        world.metadata.content.abort(CTX, "r")
        with pytest.raises(ContainerdError):
            writer.commit(CTX)
        with pytest.raises(NotFound):
            world.metadata.content.info(CTX, DIGEST)

    def test_without_a_lease_an_ingest_expires_24_hours_after_its_latest_opening(self, world: World) -> None:
        _ingest(world, "r").close()
        world.clock.advance(1000)
        world.metadata.content.writer(CTX, "r").close()
        assert _expire_at(world, "r") == world.clock.now() + INGEST_LIFETIME

    def test_a_lease_takes_the_place_of_the_expiry_and_does_not_undo_it(self, world: World) -> None:
        leased = CTX.with_lease("l")
        world.metadata.leases.create(CTX, "l")
        _ingest(world, "leased", ctx=leased).close()
        _ingest(world, "both").close()
        before = _expire_at(world, "both")
        world.clock.advance(1)
        world.metadata.content.writer(leased, "both").close()
        assert _expire_at(world, "leased") is None
        assert _expire_at(world, "both") == before


def _expire_at(world: World, ref: str) -> int | None:
    with world.metadata.database.view() as v1:
        record = buckets.find(v1, "t", buckets.CONTENT, buckets.INGESTS, ref)
        assert record is not None
        return buckets.read_time(record, buckets.EXPIRE_AT) if record.get(buckets.EXPIRE_AT) else None


class TestCommit:
    def test_another_size_is_refused_and_the_ingest_stays(self, world: World) -> None:
        with pytest.raises(FailedPrecondition) as caught:
            _ingest(world, 'r"1').commit(CTX, 5)
        assert str(caught.value) == '"r\\"1" failed size validation: 11 != 5: failed precondition'
        assert world.metadata.content.status(CTX, 'r"1').offset == 11
        world.metadata.content.writer(CTX, 'r"1').commit(CTX)

    @pytest.mark.parametrize("expected", [EMPTY_DIGEST, "sha256:zz", "md5:00"])
    def test_another_digest_is_refused_and_the_ingest_stays(self, world: World, expected: str) -> None:
        with pytest.raises(FailedPrecondition):
            _ingest(world, "r", expected=expected).commit(CTX, 0, expected)
        assert world.metadata.content.status(CTX, "r").offset == 11
        assert list(world.metadata.content.walk(CTX)) == []

    def test_a_label_that_is_too_long_does_not_cost_the_upload(self, world: World) -> None:
        with pytest.raises(InvalidArgument):
            _ingest(world, "r").commit(CTX, labels={"k": "v" * 4096})
        world.metadata.content.writer(CTX, "r").commit(CTX, labels={"k": "v" * 4095})

    def test_a_blob_that_is_there_keeps_its_record_and_uses_up_the_ingest(self, world: World) -> None:
        world.blob(HELLO, labels={"first": "1"})
        before = world.metadata.content.info(CTX, DIGEST)
        world.clock.advance(1)
        with pytest.raises(AlreadyExists, match=rf"^content {DIGEST}: already exists$"):
            _ingest(world, "r").commit(CTX, labels={"second": "2"})
        assert world.metadata.content.info(CTX, DIGEST) == before
        assert world.metadata.content.list_statuses(CTX) == []

    def test_bytes_that_only_the_back_end_has_are_committed(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        world.blob(HELLO, CTX)
        assert world.backend_digests() == [DIGEST]

    def test_a_back_end_that_fails_leaves_no_record(self) -> None:
        world = make_world(backend=_Refusing(FakeClock()))
        with pytest.raises(Unavailable, match="disk full"):
            _ingest(world, "r").commit(CTX)
        assert list(world.metadata.content.walk(CTX)) == []
        assert [status.ref for status in world.metadata.content.list_statuses(CTX)] == ["r"]

    def test_of_many_commits_of_the_same_bytes_one_succeeds(self, world: World) -> None:
        writers = [_ingest(world, f"r{number}") for number in range(8)]
        outcomes: list[str] = []
        barrier = threading.Barrier(len(writers))

        def commit(number: int) -> None:
            barrier.wait(60)
            try:
                writers[number].commit(CTX, labels={"winner": str(number)})
                outcomes.append(f"ok {number}")
            except AlreadyExists:
                outcomes.append("exists")

        threads = [threading.Thread(target=commit, args=(number,)) for number in range(len(writers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        winner = next(outcome for outcome in outcomes if outcome.startswith("ok"))
        assert sorted(outcomes) == ["exists"] * 7 + [winner]
        assert world.metadata.content.info(CTX, DIGEST).labels == {"winner": winner.removeprefix("ok ")}
        assert world.metadata.content.list_statuses(CTX) == []


class _Refusing(MemoryContent):
    """A store whose writers cannot commit."""

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Writer:  # type: ignore[override]  # wraps it
        writer = super().writer(ctx, ref, total=total, expected=expected)

        def commit(*_args: object, **_named: object) -> None:
            raise Unavailable("disk full")

        writer.commit = commit  # type: ignore[method-assign]  # the named place to fail
        return writer


class TestLeases:
    def test_content_that_is_there_cannot_be_put_into_a_lease_that_is_not(self, world: World) -> None:
        _ingest(world, "r").commit(CTX)
        with pytest.raises(NotFound, match=r"^unable to lease content: lease does not exist: not found$"):
            world.metadata.content.writer(CTX.with_lease("gone"), "r", expected=DIGEST)

    def test_a_lease_holds_the_ingest_and_then_the_blob(self, world: World) -> None:
        leased = CTX.with_lease("l")
        world.metadata.leases.create(CTX, "l")
        writer = _ingest(world, "r", ctx=leased)
        assert world.metadata.leases.list_resources(CTX, "l") == [Resource("r", "ingests")]
        writer.commit(leased)
        assert world.metadata.leases.list_resources(CTX, "l") == [Resource(DIGEST, "content")]

    def test_a_blob_that_exists_is_added_to_the_lease(self, world: World) -> None:
        world.blob(HELLO)
        for lease in ("open", "commit"):
            world.metadata.leases.create(CTX, lease)
        with pytest.raises(AlreadyExists, match=rf"^content {DIGEST}: already exists$"):
            world.metadata.content.writer(CTX.with_lease("open"), "r", expected=DIGEST)
        with pytest.raises(AlreadyExists):
            _ingest(world, "r", ctx=CTX.with_lease("commit")).commit(CTX.with_lease("commit"))
        for lease in ("open", "commit"):
            assert world.metadata.leases.list_resources(CTX, lease) == [Resource(DIGEST, "content")]

    def test_an_unknown_lease_leaves_nothing_behind(self, world: World) -> None:
        unknown = CTX.with_lease("nope")
        with pytest.raises(NotFound, match=r"^lease does not exist: not found$"):
            world.metadata.content.writer(unknown, "r")
        assert world.metadata.namespaces.list(CTX) == []
        writer = _ingest(world, "r")
        with pytest.raises(NotFound, match=r"^lease does not exist: not found$"):
            writer.commit(unknown)
        assert world.metadata.content.status(CTX, "r").offset == 11
        assert world.backend_digests() == []
        world.blob(HELLO)
        with pytest.raises(NotFound, match="lease does not exist"):
            world.metadata.content.writer(unknown, "q", expected=DIGEST)

    def test_deleting_and_aborting_take_the_entry_off_the_callers_lease_alone(self, world: World) -> None:
        for lease in ("mine", "theirs"):
            world.metadata.leases.create(CTX, lease)
            world.metadata.leases.add_resource(CTX, lease, Resource(DIGEST, "content"))
            world.metadata.leases.add_resource(CTX, lease, Resource("r", "ingests"))
        world.blob(HELLO)
        _ingest(world, "r", b"x").close()
        world.metadata.content.delete(CTX.with_lease("mine"), DIGEST)
        world.metadata.content.abort(CTX.with_lease("mine"), "r")
        assert world.metadata.leases.list_resources(CTX, "mine") == []
        assert len(world.metadata.leases.list_resources(CTX, "theirs")) == 2


class TestDelete:
    def test_a_deleted_blob_is_gone_at_once_and_can_come_back(self, world: World) -> None:
        world.blob(HELLO)
        world.metadata.content.delete(CTX, DIGEST)
        with pytest.raises(NotFound):
            world.metadata.content.delete(CTX, DIGEST)
        assert world.backend_digests() == [DIGEST], "a collection takes the bytes"
        world.blob(HELLO)

    def test_a_deletion_makes_the_database_dirty_and_an_abort_does_not(self, world: World) -> None:
        told: list[bool] = []
        world.metadata.on_mutation(told.append)
        _ingest(world, "r").close()
        world.metadata.content.abort(CTX, "r")
        assert told == [False, False]
        world.blob(HELLO)
        world.metadata.content.update(CTX, Info(DIGEST))
        assert not any(told)
        world.metadata.content.delete(CTX, DIGEST)
        assert told[-1] is True

    def test_the_bytes_go_when_the_last_namespace_lets_go(self, world: World) -> None:
        world.blob(HELLO, CTX, {"containerd.io/gc.root": "1"})
        world.blob(HELLO, OTHER, {"containerd.io/gc.root": "1"})
        world.metadata.content.delete(CTX, DIGEST)
        world.collect()
        assert world.backend_digests() == [DIGEST]
        world.metadata.content.delete(OTHER, DIGEST)
        world.collect()
        assert world.backend_digests() == []


class TestSharing:
    def test_a_digest_that_is_known_elsewhere_needs_no_upload(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        status = writer.status()
        assert (status.ref, status.offset, status.total, writer.digest()) == ("r", 11, 11, DIGEST)
        with pytest.raises(NotFound):
            world.metadata.content.info(CTX, DIGEST)
        writer.commit(CTX, 11, DIGEST, {"a": "b"})
        assert world.metadata.content.info(CTX, DIGEST).labels == {"a": "b"}
        assert world.metadata.content.info(CTX, DIGEST).size == 11

    def test_another_size_opens_an_ordinary_ingest(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        status = world.metadata.content.writer(CTX, "r", total=7, expected=DIGEST).status()
        assert (status.offset, status.total) == (0, 7)

    def test_a_shared_upload_is_not_in_the_back_end_and_not_locked(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        first = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        world.metadata.content.writer(CTX, "r", expected=DIGEST)
        assert world.metadata.content.list_statuses(CTX) == []
        with pytest.raises(NotFound):
            world.metadata.content.status(CTX, "r")
        first.close()
        world.metadata.content.abort(CTX, "r")
        assert world.metadata.content.info(OTHER, DIGEST).size == 11

    @pytest.mark.parametrize("size, expected", [(5, ""), (0, EMPTY_DIGEST)])
    def test_a_shared_commit_is_checked_all_the_same(self, world: World, size: int, expected: str) -> None:
        world.blob(HELLO, OTHER)
        with pytest.raises(FailedPrecondition):
            world.metadata.content.writer(CTX, "r", expected=DIGEST).commit(CTX, size, expected)
        assert list(world.metadata.content.walk(CTX)) == []
        world.metadata.content.writer(CTX, "r", expected=DIGEST).commit(CTX, 11)

    def test_writing_goes_to_a_private_copy(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        assert writer.write(b"") == 0
        assert writer.write(b"!") == 1
        assert writer.status().offset == 12
        writer.commit(CTX, 12)
        assert world.metadata.content.info(CTX, digest_of(HELLO + b"!")).size == 12
        assert world.metadata.content.reader(OTHER, DIGEST).read_at(0, 99) == HELLO

    def test_truncating_starts_from_nothing(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        writer.truncate(0)
        assert (writer.status().offset, writer.digest()) == (0, EMPTY_DIGEST)
        writer.write(b"x")
        writer.truncate(0)
        writer.write(HELLO)
        writer.commit(CTX, 11, DIGEST)
        assert world.metadata.content.info(CTX, DIGEST).size == 11

    def test_a_private_copy_that_was_given_up_is_not_continued(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        first = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        first.write(b" and more")
        first.close()
        second = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        assert second.status().offset == 11
        second.write(b"!")
        second.commit(CTX, 12, digest_of(HELLO + b"!"))

    def test_aborting_a_private_copy_frees_its_bytes(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        writer.write(b"!")
        writer.close()
        world.metadata.content.abort(CTX, "r")
        assert world.backend.list_statuses(CallContext()) == []

    def test_a_shared_upload_keeps_the_bytes_it_expects(self, world: World) -> None:
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        world.metadata.content.delete(OTHER, DIGEST)
        world.collect()
        writer.commit(CTX, 11)
        assert world.metadata.content.reader(CTX, DIGEST).read_at(0, 99) == HELLO

    def test_isolated_namespaces_send_the_bytes_themselves(self) -> None:
        world = make_world(ISOLATED)
        world.blob(HELLO, OTHER)
        writer = world.metadata.content.writer(CTX, "r", expected=DIGEST)
        assert writer.status().offset == 0
        with pytest.raises(FailedPrecondition):
            writer.commit(CTX, 11, DIGEST)
        _ingest(world, "r", expected=DIGEST).commit(CTX, 11, DIGEST)
        assert world.backend_digests() == [DIGEST]

    @pytest.mark.parametrize("value, offset", [("true", 11), ("True", 0), ("1", 0), ("", 0)])
    def test_an_isolated_namespace_may_offer_its_blobs(self, value: str, offset: int) -> None:
        world = make_world(ISOLATED)
        labels = {"containerd.io/namespace.shareable": value}
        world.metadata.namespaces.create(CTX, Namespace("other", labels))
        world.metadata.namespaces.create(CTX, Namespace("third", {"containerd.io/namespace.shareable": "true"}))
        world.blob(HELLO, OTHER)
        assert world.metadata.content.writer(CTX, "r", expected=DIGEST).status().offset == offset

    def test_an_unknown_policy_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match=r"^unknown policy: bogus: invalid argument$"):
            make_world("bogus")


class TestDamage:
    def test_a_record_without_bytes_is_repaired_by_deleting_and_sending_again(self, world: World) -> None:
        world.blob(HELLO)
        world.backend.delete(CallContext(), DIGEST)
        assert world.metadata.content.info(CTX, DIGEST).size == 11
        with pytest.raises(NotFound):
            world.metadata.content.reader(CTX, DIGEST)
        with pytest.raises(AlreadyExists):
            world.metadata.content.writer(CTX, "r", expected=DIGEST)
        world.metadata.content.delete(CTX, DIGEST)
        world.blob(HELLO)
        assert world.metadata.content.reader(CTX, DIGEST).read_at(0, 99) == HELLO

    def test_bytes_without_a_record_are_no_content_and_can_be_adopted(self, world: World) -> None:
        orphan = world.backend.writer(CallContext(), "left-by-a-crash")
        orphan.write(HELLO)
        orphan.commit(CallContext())
        with pytest.raises(NotFound):
            world.metadata.content.info(CTX, DIGEST)
        world.metadata.content.writer(CTX, "r", expected=DIGEST).commit(CTX, 11)
        assert world.metadata.content.info(CTX, DIGEST).size == 11

    def test_one_blob_that_cannot_be_removed_does_not_keep_the_others(self) -> None:
        stubborn = digest_of(b"0")
        world = make_world(backend=_Stubborn(FakeClock(), stubborn))
        for number in range(10):
            world.blob(str(number).encode())
        _ingest(world, "late").close()
        world.metadata.content.delete(CTX, stubborn)
        world.clock.advance(INGEST_LIFETIME / 1e9 + 1)
        world.collect()
        assert world.backend_digests() == [stubborn]
        assert world.backend.list_statuses(CallContext()) == []


class _Stubborn(MemoryContent):
    """A store that does not give one blob away."""

    def __init__(self, clock: FakeClock, digest: str) -> None:
        super().__init__(clock)
        self._stubborn = digest

    def delete(self, ctx: CallContext, digest: str) -> None:
        if digest == self._stubborn:
            raise Unknown("input/output error")
        super().delete(ctx, digest)
