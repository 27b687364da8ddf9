"""Metadata: the lock on the file, and who waits for it (MET-015 to 018)."""

from __future__ import annotations

import fcntl
import os
import threading
import time

from conformance import clause
from conformance.suites._metadata import (
    ME,
    ON_DISK,
    PATIENCE,
    QUIET,
    REPLACED,
    UNKNOWN,
    UNSERVED,
    container,
    database,
    filled,
    folder,
    ids,
    is_locked,
    locked,
    put,
    told,
    tree,
    unserved,
)
from conformance.suites._tasks import Later, eventually

MOMENT = 2.0
"""Seconds in which a start that does not wait for a lock is over."""

WARNING_SECONDS = 10
"""After so long a wait the log says what for."""

WAITING = "waiting for response from boltdb open"


@clause("MET-015", needs=ON_DISK | {"config"})
def test_the_file_is_locked_as_long_as_the_daemon_lives(own):
    """Rejects: locks of another kind, or none."""
    instance = own(config=QUIET)
    file = database(instance)
    assert is_locked(file, fcntl.LOCK_EX)
    assert is_locked(file, fcntl.LOCK_SH)
    fd = os.open(file, os.O_RDWR)
    try:
        instance.close()
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


@clause("MET-015", needs=REPLACED | {"kill"})
def test_a_lock_does_not_outlive_its_process(own):
    """Rejects: a file that says that there is a lock."""
    instance = filled(own, "c")
    instance.restart(kill=True)
    assert ids(instance) == ["c"]
    assert is_locked(database(instance))


def _sharing(one, other):
    """Give a second instance the database of the first; it has its own until it is started again."""
    beside = folder(other) / "replacement"
    os.link(database(one), beside)
    beside.replace(database(other))


def _meanwhile(work):
    """Begins work beside the check, which itself starts daemons: they end with the thread that started them."""
    return Later(work)


@clause("MET-016", needs=REPLACED)
def test_a_second_daemon_waits_for_the_lock(own):
    """Rejects: a daemon that gives up, and one that serves the same file."""
    first, second = filled(own, "c"), own(config=QUIET)
    _sharing(first, second)
    released = threading.Event()

    def release():
        time.sleep(MOMENT)
        first.containers.create(ME, container("d"))
        released.set()
        first.close()

    releasing = _meanwhile(release)
    second.restart()

    assert released.is_set(), "it did not wait"
    releasing.result()
    assert told(second).init_err is None
    assert ids(second) == ["c", "d"]


@clause("MET-016", needs=REPLACED | {"log"})
def test_who_waits_for_long_says_what_for(own):
    """Rejects: a start that hangs and nobody knows why."""
    first, second = filled(own, "c"), own(config=QUIET)
    _sharing(first, second)

    def release():
        try:
            eventually(
                lambda: WAITING in second.log(),
                "a warning in the log of the one that waits",
                seconds=WARNING_SECONDS + PATIENCE,
            )
        finally:
            first.close()

    releasing = _meanwhile(release)
    second.restart()
    releasing.result()
    assert second.log().count(WAITING) == 1
    assert ids(second) == ["c"]


@clause("MET-017", needs=REPLACED)
def test_the_wait_for_the_lock_can_be_limited(own):
    """Rejects: a limit that nobody looks at, and a daemon that ends with it."""
    first = own(config=QUIET)
    second = own(config=QUIET + '[timeouts]\n"io.containerd.timeout.bolt.open" = "500ms"\n')
    _sharing(first, second)
    second.restart()

    error = told(second).init_err
    assert (error.code, error.message) == (UNKNOWN, "timeout")
    assert unserved(second) == UNSERVED
    assert ids(first) == []


@clause("MET-018", needs=REPLACED)
def test_a_reader_delays_the_start(own):
    """Rejects: a file that is opened whoever reads it."""
    instance = own(config=QUIET)
    file = put(instance, tree())
    released, reading = threading.Event(), threading.Event()

    def read_for_a_while():
        with locked(file, fcntl.LOCK_SH):
            reading.set()
            time.sleep(MOMENT)
            released.set()

    reader = _meanwhile(read_for_a_while)
    assert reading.wait(PATIENCE)
    instance.restart()
    assert released.is_set(), "it did not wait"
    reader.result()
    assert told(instance).init_err is None
