"""Metadata: the file, its growth, and what is written to it when (MET-001, MET-024, MET-026, MET-051, MET-056)."""

from __future__ import annotations

import random
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

from conformance import clause
from conformance.suites._bolt import PAGE, SMALLEST, problems
from conformance.suites._metadata import (
    ME,
    ON_DISK,
    PATIENCE,
    QUIET,
    REPLACED,
    SPEC,
    container,
    database,
    folder,
    ids,
    is_locked,
    kind,
    txid,
)
from conformance.suites._tasks import eventually
from refimpl.contract.errors import AlreadyExists, ContainerdError, NotFound
from refimpl.contract.namespaces import Namespace
from refimpl.contract.types import TypedAny


@clause("MET-001", needs=REPLACED)
def test_the_file_has_a_directory_of_its_own(own):
    """Rejects: other modes, another place, other files beside it."""
    instance = own(config=QUIET)
    mask = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line).split()[1], 8
    )

    assert stat.S_IMODE(folder(instance).stat().st_mode) == 0o711 & ~mask
    assert [path.name for path in folder(instance).iterdir()] == ["meta.db"]
    found = database(instance).lstat()
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o644 & ~mask
    assert found.st_size % PAGE == 0
    assert found.st_size == SMALLEST


@clause("MET-056", needs=ON_DISK | {"config"})
def test_the_database_of_a_snapshotter_is_made_when_it_is_needed(own):
    """Rejects: a start that opens all of them, and waits for the one that somebody has."""
    instance = own(config=QUIET)
    file = instance.root / "io.containerd.snapshotter.v1.native" / "metadata.db"
    assert not file.exists()
    instance.snapshotter("native").prepare(ME, "k")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert is_locked(file)


@clause("MET-051", needs=REPLACED)
def test_the_file_grows_in_steps_and_is_used_again(own):
    """Rejects: pages that are never used again."""
    instance = own(config=QUIET)
    big = TypedAny(SPEC.type_url, b"x" * 20000)
    sizes = [database(instance).stat().st_size]

    def fill(count):
        for number in range(count):
            instance.containers.create(ME, container(f"big{number}", spec=big))
        sizes.append(database(instance).stat().st_size)

    fill(60)
    for id in ids(instance):
        instance.containers.delete(ME, id)
    instance.restart()
    fill(20)
    assert sizes[0] == SMALLEST
    assert sizes[1] >= 60 * 20000
    assert sizes[1] & (sizes[1] - 1) == 0, "a power of two"
    assert sizes[2] == sizes[1]


ROUNDS, CLIENTS = 3, 3


@clause("MET-024", needs=REPLACED | {"kill"})
def test_what_was_answered_survives_a_kill(own):
    """Rejects: answers before the commit, and pages that are written in the wrong order."""
    instance = own(config=QUIET)
    there, gone = set(), set()
    draw = random.Random(24)

    for turn in range(ROUNDS):
        stop = threading.Event()
        clients = [_Client(instance.containers, f"r{turn}-{number}", stop) for number in range(CLIENTS)]
        eventually(lambda: all(len(client.there) > 1 for client in clients), "something is written")  # noqa: B023
        time.sleep(draw.uniform(0.15, 0.5))
        try:
            instance.restart(kill=True)
        finally:
            stop.set()
            for client in clients:
                client.join(PATIENCE)
        for client in clients:
            there |= client.there
            gone |= client.gone
        there -= gone

        assert problems(database(instance)) == []
        found = set(ids(instance))
        assert there - found == set()
        assert gone & found == set()
        unknown = found - there
        assert len(unknown) <= CLIENTS, "at most one call of each was in flight"
        there |= unknown
    assert len(there) > ROUNDS * CLIENTS, "something was written at all"


class _Client(threading.Thread):
    """Creates containers, and deletes every fifth again, until the daemon is gone."""

    def __init__(self, containers, stem, stop):
        super().__init__(daemon=True)
        self._containers, self._stem, self._stop_asked = containers, stem, stop
        self.there, self.gone = set(), set()
        self.start()

    def run(self):
        draw = random.Random(self._stem)
        with suppress(ContainerdError, ValueError):  # a client that was closed cannot call
            for number in range(100000):
                if self._stop_asked.is_set():
                    return
                id = f"{self._stem}-{number}"
                spec = TypedAny(SPEC.type_url, b"x" * draw.randint(1, 3000))
                self._containers.create(ME, container(id, spec=spec))
                self.there.add(id)
                if number % 5 == 4:
                    self.there.discard(id)
                    try:
                        self._containers.delete(ME, id)
                    except ContainerdError:
                        return  # it may be there or not
                    self.gone.add(id)


@clause("MET-026", needs=ON_DISK | {"config"})
def test_reads_and_refusals_commit_nothing(own):
    """Rejects: a write transaction for a read."""
    instance = own(config=QUIET)
    start = txid(instance)

    def commits():
        return txid(instance) - start

    ids(instance)
    assert kind(lambda: instance.containers.get(ME, "unknown")) is NotFound
    instance.namespaces.list(ME)
    assert commits() == 0
    instance.containers.create(ME, container("a"))
    assert commits() == 1
    assert kind(lambda: instance.containers.create(ME, container("a"))) is AlreadyExists
    assert kind(lambda: instance.containers.delete(ME, "unknown")) is NotFound
    assert commits() == 1
    instance.namespaces.create(ME, Namespace("n"))
    assert commits() == 2
    instance.snapshotter("native").prepare(ME, "k")
    assert commits() == 4
