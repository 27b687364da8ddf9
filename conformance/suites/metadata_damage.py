"""Metadata: files that are damaged, cut, rebuilt or older (MET-019 to 023, MET-052, MET-058, MET-060)."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from conformance import clause
from conformance.subjects.base import SubjectError
from conformance.suites._bolt import NO_FREELIST, PAGE, SMALLEST, current, meta, problems
from conformance.suites._content import ROOTED, fresh, store
from conformance.suites._content import read as read_blob
from conformance.suites._metadata import (
    ME,
    QUIET,
    REPLACED,
    UNKNOWN,
    UNSERVED,
    container,
    database,
    filled,
    ids,
    kind,
    put,
    records,
    settled,
    started_on,
    told,
    tree,
    txid,
    unserved,
)
from refimpl.contract.errors import NotFound
from refimpl.contract.types import TypedAny


def _flipped(data, *pages):
    """One bit of some meta pages is wrong."""
    found = bytearray(data)
    for page in pages:
        found[page * PAGE + 40] ^= 0x10
    return bytes(found)


@clause("MET-019", needs=REPLACED)
@pytest.mark.parametrize(
    "damage, text",
    [
        ("random", "invalid database"),
        ("text", "invalid database"),
        ("short", "invalid database"),
        ("one page", "file size too small"),
        ("both meta pages", "checksum error"),
        ("another version", "version mismatch"),
        ("directory", "is a directory"),
    ],
)
def test_an_unusable_file_takes_its_dependents_along_and_not_the_daemon(own, damage, text):
    """Rejects: a new database in its place, and a daemon that ends."""
    instance = filled(own, "c")
    good = database(instance).read_bytes()
    match damage:
        case "another version":
            file = put(instance, tree(), version=3)
        case "directory":
            file = database(instance)
            file.unlink()
            file.mkdir()
        case _:
            file = put(
                instance,
                {
                    "random": random.Random(1).randbytes(SMALLEST),
                    "text": b"no database\n" * 1000,
                    "short": good[:100],
                    "one page": good[:PAGE],
                    "both meta pages": _flipped(good, 0, 1),
                }[damage],
            )
    before = None if file.is_dir() else file.read_bytes()

    instance.restart()

    error = told(instance).init_err
    assert error.code == UNKNOWN
    assert text in error.message
    assert unserved(instance) == UNSERVED
    assert file.is_dir() if before is None else file.read_bytes() == before


@clause("MET-020", needs=REPLACED)
@pytest.mark.parametrize("newer, left", [(True, ["c0", "c1"]), (False, ["c0", "c1", "c2"])])
def test_one_of_two_meta_pages_is_enough(own, newer, left):
    """Rejects: the page of the last commit taken as it is."""
    instance = filled(own, "c0", "c1", "c2")
    data = database(instance).read_bytes()
    last = current(data).txid % 2
    put(instance, _flipped(data, last if newer else 1 - last))
    instance.restart()
    assert told(instance).init_err is None
    assert ids(instance) == left


@clause("MET-021", needs=REPLACED)
def test_an_empty_file_is_a_new_one(own):
    """Rejects: an empty file that counts as a damaged one."""
    instance = started_on(own, b"")
    assert told(instance).init_err is None
    assert ids(instance) == []
    instance.containers.create(ME, container("c"))
    assert ids(instance) == ["c"]


@clause("MET-022", needs=REPLACED)
def test_sums_that_are_zero_are_refused_or_mended(own):
    """Rejects: zeros that are written again."""
    instance = filled(own, "c0")
    data = bytearray(database(instance).read_bytes())
    for page in (0, 1):
        data[page * PAGE + 72 : page * PAGE + 80] = bytes(8)
    put(instance, bytes(data))
    instance.restart()
    error = told(instance).init_err
    if error is not None:
        assert "checksum error" in error.message
        return
    assert ids(instance) == ["c0"]
    for name in ("c1", "c2"):
        instance.containers.create(ME, container(name))
    written = database(instance).read_bytes()
    assert [meta(written, page).sound for page in (0, 1)] == [True, True]


@clause("MET-023", needs=REPLACED)
def test_a_file_that_is_cut_is_not_served(own):
    """Rejects: an empty store in the place of the one that was lost."""
    instance = filled(own, "c")
    put(instance, database(instance).read_bytes()[: 2 * PAGE])
    with suppress(SubjectError):  # then the daemon ended
        instance.restart()
        assert told(instance).init_err is not None
        assert unserved(instance) == UNSERVED


@clause("MET-052", needs=REPLACED)
def test_a_file_without_free_list_is_served(own):
    """Rejects: the mark for none that is taken for the number of a page."""
    instance = own(config=QUIET)
    instance.containers.create(ME, container("c1"))
    file = put(instance, records(instance), freelist=False)
    assert current(file.read_bytes()).freelist == NO_FREELIST
    instance.restart()
    assert ids(instance) == ["c1"]
    instance.containers.create(ME, container("c2"))
    assert settled(file).bucket("v1", "t", "containers").names == {"c1", "c2"}
    assert problems(file) == []


@clause("MET-058", needs=REPLACED)
def test_a_file_that_another_program_wrote_is_served(own):
    """Rejects: a daemon that counts on its own pages, or on numbers that grow."""
    instance = own(config=QUIET)
    ctx = ME.with_lease(instance.leases.create(ME, "l", {"a": "1"}).id)
    for number in range(40):
        instance.containers.create(
            ctx.with_namespace(f"n{number % 4}").with_lease(""),
            container(f"c{number}", labels={"l": "x" * number}, spec=TypedAny("t/x", b"s" * 300 * number)),
        )
    digest = store(instance.content, ctx, fresh())
    instance.snapshotter("native").prepare(ctx, "k")
    assert problems(database(instance)) == []

    def everything():
        names = [namespace.name for namespace in instance.namespaces.list(ME)]
        return {
            name: (
                instance.containers.list(ME.with_namespace(name)),
                instance.leases.list(ME.with_namespace(name)),
                list(instance.content.walk(ME.with_namespace(name))),
                list(instance.snapshotter("native").walk(ME.with_namespace(name))),
            )
            for name in names
        }

    before = everything()
    assert len(before) == 5
    put(instance, records(instance))
    assert txid(instance) == 1
    instance.restart()
    assert everything() == before
    assert len(read_blob(instance.content, ME, digest)) == 24
    instance.containers.delete(ME.with_namespace("n1"), "c1")
    assert problems(database(instance)) == []


@clause("MET-060", needs=REPLACED)
def test_an_older_copy_brings_the_older_state_back(own):
    """Rejects: records that are made from the files that are found."""
    instance = own(config=QUIET)
    blobs = instance.root / "io.containerd.content.v1.content" / "blobs" / "sha256"
    copy = records(instance)
    digest = store(instance.content, ME, fresh(), ROOTED)
    put(instance, copy)
    instance.restart()

    assert kind(lambda: instance.content.info(ME, digest)) is NotFound
    assert (blobs / digest.partition(":")[2]).exists()
    store(instance.content, ME, fresh())  # of which the collector may let go
    instance.collect(ME.with_namespace("elsewhere"))
    assert not (blobs / digest.partition(":")[2]).exists()


@clause("MET-060", needs=REPLACED)
def test_a_record_whose_data_are_gone_is_still_a_record(own):
    """Rejects: records that are dropped at a look at the directory, and data that come from nowhere."""
    instance = own(config=QUIET)
    digest = store(instance.content, ME, fresh(), ROOTED)
    file = instance.root / "io.containerd.content.v1.content" / "blobs" / "sha256" / digest.partition(":")[2]
    file.unlink()
    instance.restart()
    assert instance.content.info(ME, digest).digest == digest
    assert [info.digest for info in instance.content.walk(ME)] == [digest]
    assert kind(lambda: read_blob(instance.content, ME, digest)) is NotFound
