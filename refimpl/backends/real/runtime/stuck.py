"""Shims that were asked to end, and do not: runc's waits for ever for a fifo that nobody opens (TSK-029)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import signal
from pathlib import Path

log = logging.getLogger("refimpl.runtime")


def end_stuck(pid: int, binary: str, id: str, seconds: float) -> None:
    """Kill the shim that was started for a task, unless it ends within the time.

    Nothing happens to a process that is not the shim of that task: one that was started for another one, which this
    task had joined, or one that somebody else claims to be.

    Args:
        pid: as the shim said.
        binary: path of the shim.
        id: of the task.
    """
    try:
        # From here on the number cannot become somebody else's.
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if not _is_shim_of(pid, binary, id):
            return
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if ended.poll(round(seconds * 1000)):
            return
        log.warning("killing a shim that does not end", extra={"fields": {"id": id, "pid": pid}})
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _is_shim_of(pid: int, binary: str, id: str) -> bool:
    try:
        words = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return False
    return words[0] == binary and ("-id", id) in itertools.pairwise(words)
