"""One thread that waits for many things."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refimpl.backends.real.runtime.watcher import Watcher, copier, on_exit, open_log

SECONDS = 60.0


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """A watcher, closed afterwards."""
    made = Watcher()
    yield made
    made.close()


def _tells(called: threading.Event) -> Callable[[], bool]:
    """A callback that is done with the first call."""

    def ready() -> bool:
        called.set()
        return False

    return ready


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


def test_a_log_is_copied_from_all_its_writers_and_none_has_to_wait(watcher: Watcher, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    source = open_log(str(tmp_path / "log"))
    assert (tmp_path / "log").is_fifo()
    watcher.watch(source, copier(source, theirs))

    for word in (b"one ", b"two "):
        # Opened and closed: there is no end between two writers.
        with (tmp_path / "log").open("wb") as file:
            file.write(word)

    assert _read(ours, 8) == b"one two "
    os.close(ours)
    os.close(theirs)


def test_what_nobody_wants_to_read_is_thrown_away(watcher: Watcher, tmp_path: Path) -> None:
    source = open_log(str(tmp_path / "log"))
    watcher.watch(source, copier(source, None))

    # More than a fifo holds: a writer without a reader would wait for ever.
    with (tmp_path / "log").open("wb") as file:
        file.write(bytes(1 << 20))


def test_the_fifo_of_an_earlier_daemon_is_opened_again(tmp_path: Path) -> None:
    first, second = (open_log(str(tmp_path / "log")) for _ in range(2))

    os.write(first, b"kept")
    assert os.read(second, 10) == b"kept"
    os.close(first)
    os.close(second)


def test_what_is_taken_back_is_closed_and_not_called_again(watcher: Watcher) -> None:
    ours, theirs = os.pipe()
    called = threading.Event()
    end = watcher.watch(ours, _tells(called))
    end()
    end()
    closed = threading.Event()
    # What comes after it is done after it.
    watcher.watch(os.eventfd(1), _tells(closed))

    assert closed.wait(SECONDS)
    with pytest.raises(BrokenPipeError):
        os.write(theirs, b"x")
    assert not called.is_set()
    os.close(theirs)


def test_a_callback_that_fails_does_not_end_the_watching_of_others(watcher: Watcher) -> None:
    def fail() -> bool:
        raise RuntimeError("on purpose")

    watcher.watch(os.eventfd(1), fail)
    seen = threading.Event()
    watcher.watch(os.eventfd(1), _tells(seen))

    assert seen.wait(SECONDS)


def test_after_the_end_nothing_is_watched_and_nothing_kept_open() -> None:
    watcher = Watcher()
    before, after = os.eventfd(0), os.eventfd(0)
    watcher.watch(before, lambda: True)

    watcher.close()
    watcher.close()
    watcher.watch(after, lambda: True)

    for descriptor in (before, after):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_watcher_that_was_never_used_can_be_closed() -> None:
    Watcher().close()


def test_the_end_of_a_child_is_told_and_leaves_no_zombie(watcher: Watcher) -> None:
    pid = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
    ended = threading.Event()
    on_exit(watcher, pid, ended.set)

    os.kill(pid, 9)

    assert ended.wait(SECONDS)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_the_end_of_somebody_elses_child_is_told_as_well(watcher: Watcher) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        ended = threading.Event()
        on_exit(watcher, pid, ended.set)

        os.kill(pid, 9)

        assert ended.wait(SECONDS)


def test_a_process_that_is_not_there_cannot_be_watched(watcher: Watcher) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()

    with pytest.raises(ProcessLookupError):
        on_exit(watcher, process.pid, lambda: None)
