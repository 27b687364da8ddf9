"""Metadata: databases of other releases and of other programs, and what becomes of them at a start (MET-003 to 014)."""

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._bolt import Bucket
from conformance.suites._metadata import (
    ME,
    ON_DISK,
    REPLACED,
    RUNC,
    SPEC,
    container,
    ids,
    own_version,
    records,
    started_on,
    told,
    tree,
    txid,
    version,
)
from refimpl.contract.encoding import encode_any, encode_time
from refimpl.contract.times import SECOND

THEN = encode_time(1_700_000_000 * SECOND)
CURRENT = {3: b"\x06", 4: b"\x08"}
"""The schema of 1.6, and that of 2.x."""

SANDBOXES = 4
"""The schema in which sandboxes have moved."""


def record(**more):
    """A record with the times that all have."""
    items: dict[str | bytes, bytes | str | Bucket] = {"createdat": THEN, "updatedat": THEN}
    items.update(more)
    return Bucket(items)


def container_record(**more):
    """A container as 1.6 writes it."""
    return record(
        spec=encode_any(SPEC), image="", snapshotter="", snapshotKey="", runtime=Bucket({"name": RUNC.name}), **more
    )


def snapshots():
    """A parent without index, its child, and a child whose parent is gone."""
    return Bucket(
        {
            "native": Bucket(
                {
                    "base": record(name="t/1/base"),
                    "kid": record(name="t/2/kid", parent="base"),
                    "orph": record(name="t/3/orph", parent="missing"),
                },
                sequence=3,
            )
        }
    )


def old_ingests():
    """Ingests as they were kept once."""
    return Bucket({"ingest": Bucket({"ref1": "t/1/ref1", "ref2": "t/2/ref2"})})


@clause("MET-003", "MET-004", needs=REPLACED)
def test_a_new_database_holds_its_version_only(own):
    """Rejects: a namespace for everybody, and a version in another encoding."""
    instance = started_on(own, b"")

    assert instance.namespaces.list(ME) == []
    found = records(instance)
    assert found.names == {"v1"}
    assert found.bucket("v1").names == {"version"}
    assert found.value("v1", "version") == CURRENT[own_version(instance)]


@clause("MET-004", needs=ON_DISK)
def test_the_version_is_a_signed_number(subject):
    """Rejects: text, and unsigned numbers."""
    assert records(subject).value("v1", "version") in CURRENT.values()


@clause("MET-005", needs=REPLACED)
def test_opening_what_is_up_to_date_changes_nothing(own, subject):
    """Rejects: a version that is written at every start."""
    instance = started_on(own, tree(at=own_version(subject)))
    assert txid(instance) == 1


@clause("MET-006", needs=REPLACED)
@pytest.mark.parametrize("newer", [4, 99])
def test_a_newer_version_is_served_and_left_alone(own, subject, newer):
    """Rejects: a refusal, and a version that is set back."""
    if newer == own_version(subject):
        pytest.skip("this is the version of the implementation itself")
    data = tree({"t": Bucket({"containers": Bucket({"c1": container_record()})})}, at=newer)
    instance = started_on(own, data)
    assert told(instance).init_err is None
    assert ids(instance) == ["c1"]
    instance.containers.create(ME, container("c2"))
    instance.restart()
    assert ids(instance) == ["c1", "c2"]
    assert records(instance).value("v1", "version") == version(newer)


@clause("MET-007", needs=REPLACED)
@pytest.mark.parametrize(
    "old",
    [None, 1, 2, -1, b"", b"\xff\xff"],
    ids=["missing", "1", "2", "-1", "empty", "undecodable"],
)
def test_an_older_version_is_brought_up_to_date(own, old):
    """Rejects: a missing version that counts as the current one."""
    data = tree({"t": Bucket({"containers": Bucket({"c1": container_record()})})}, at=old)
    instance = started_on(own, data)
    assert told(instance).init_err is None
    assert own_version(instance) in CURRENT
    assert txid(instance) == 2, "one transaction"
    instance.restart()
    instance.containers.create(ME, container("c2"))
    assert ids(instance) == ["c1", "c2"]


@clause("MET-008", needs=REPLACED)
def test_the_index_of_children_is_built(own):
    """Rejects: a start that fails on an orphan, and a parent that can be removed under its child."""
    instance = started_on(own, tree({"t": Bucket({"snapshots": snapshots()})}, at=None))

    found = records(instance).bucket("v1", "t", "snapshots", "native")
    assert found.bucket("base", "children") == {b"kid": b""}
    assert found.bucket("orph") == snapshots().bucket("native", "orph")
    assert found.bucket("kid") == snapshots().bucket("native", "kid")
    assert found.sequence == 3
    assert [info.name for info in instance.snapshotter("native").walk(ME)] in (["base", "kid", "orph"], [])


@clause("MET-009", needs=REPLACED)
@pytest.mark.parametrize("old", [None, 1])
def test_ingests_get_their_new_form(own, old):
    """Rejects: uploads that are dropped, or that get a time to live."""
    instance = started_on(own, tree({"t": Bucket({"content": old_ingests()})}, at=old))

    content = records(instance).bucket("v1", "t", "content")
    assert content.at("ingest") is None
    assert content.bucket("ingests") == {b"ref1": {b"ref": b"t/1/ref1"}, b"ref2": {b"ref": b"t/2/ref2"}}


@clause("MET-010", needs=REPLACED)
def test_only_the_missing_steps_are_made(own):
    """Rejects: all steps at every start."""
    namespace = Bucket({"snapshots": snapshots(), "content": old_ingests()})
    instance = started_on(own, tree({"t": namespace}, at=1))

    found = records(instance).bucket("v1", "t")
    assert found.at("snapshots", "native", "base", "children") is None
    assert found.at("content", "ingest") is None
    assert own_version(instance) in CURRENT


@clause("MET-010", needs=REPLACED)
def test_no_step_is_made_twice(own, subject):
    """Rejects: steps that look at what they find and not at the version."""
    namespace = Bucket({"snapshots": snapshots(), "content": old_ingests()})
    instance = started_on(own, tree({"t": namespace}, at=own_version(subject)))

    found = records(instance).bucket("v1", "t")
    assert found.bucket("snapshots") == snapshots()
    assert found.bucket("content", "ingest") == old_ingests().bucket("ingest")


@clause("MET-011", "MET-012", needs=REPLACED)
def test_other_buckets_at_the_top_are_moved_or_left_alone(own):
    """Rejects: sandboxes that lose something on their way, and foreign data that an old release throws away."""
    sandbox = record(sandboxer="podsandbox", spec=encode_any(SPEC), runtime=Bucket({"name": RUNC.name}))
    sandbox[b"labels"] = Bucket({"a": "1"})
    data = tree({"k": Bucket({"labels": Bucket()})}, at=3)
    data[b"k"] = Bucket({"sandboxes": Bucket({"s1": sandbox})})
    data[b"junk"] = Bucket({"x": "y"})
    instance = started_on(own, data)

    found = records(instance)
    if own_version(instance) < SANDBOXES:
        assert found.names == {"v1", "k", "junk"}
        assert found.bucket("k", "sandboxes", "s1") == sandbox
        assert found.bucket("junk") == {b"x": b"y"}
    else:
        assert found.names == {"v1"}
        assert found.bucket("v1", "k", "sandboxes", "s1") == sandbox


@clause("MET-012", needs=REPLACED)
def test_a_file_without_our_bucket_is_an_empty_store(own):
    """Rejects: a start that fails on another schema, or that writes into it."""
    other = Bucket({"version": version(1), "t": Bucket({"containers": Bucket()})})
    instance = started_on(own, Bucket({"v2": other}))
    assert told(instance).init_err is None
    assert instance.namespaces.list(ME) == []
    instance.containers.create(ME, container("c"))

    found = records(instance)
    assert found.names == {"v1", "v2"}
    assert found.bucket("v2") == other
    assert own_version(instance) in CURRENT


@clause("MET-013", needs=REPLACED)
def test_what_nobody_knows_is_kept(own, subject):
    """Rejects: records that are written anew from the fields that are known."""
    future = Bucket({"x": "y"})
    c1 = container_record(futurekey="zzz")
    c1[b"futurebucket"] = Bucket({"deep": Bucket({"a": "b"})})
    namespace = Bucket({"containers": Bucket({"c1": c1}), "futurething": future})
    instance = started_on(own, tree({"t": namespace}, at=own_version(subject)))
    assert instance.containers.get(ME, "c1").id == "c1"
    instance.containers.update(ME, container("c1", image="z"), ["image"])

    found = records(instance).bucket("v1", "t")
    assert found.value("containers", "c1", "image") == b"z"
    assert found.value("containers", "c1", "futurekey") == b"zzz"
    assert found.bucket("containers", "c1", "futurebucket") == c1.bucket("futurebucket")
    assert found.bucket("futurething") == future

    instance.containers.delete(ME, "c1")
    instance.namespaces.delete(ME, "t")
    assert records(instance).at("v1", "t") is None


@clause("MET-014", needs=REPLACED)
def test_what_a_newer_release_wrote_is_served(own):
    """Rejects: a refusal of its version, and data of it that an update throws away."""
    leases = Bucket(
        {"l": Bucket({"createdat": THEN, "images": Bucket({"i": b""}), "content": Bucket({"sha256:00": b""})})}
    )
    c2 = container_record(sandboxid="sb")
    instance = started_on(own, tree({"t": Bucket({"containers": Bucket({"c2": c2}), "leases": leases})}, at=4))

    assert ids(instance) == ["c2"]
    kinds = {resource.type for resource in instance.leases.list_resources(ME, "l")}
    assert kinds in ({"content"}, {"content", "images"})
    instance.containers.update(ME, container("c2", image="z"), ["image"])
    found = records(instance).bucket("v1")
    assert found.value("t", "containers", "c2", "sandboxid") == b"sb"
    assert found.value("version") == version(4)
    assert found.bucket("t", "leases") == leases
