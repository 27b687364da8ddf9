"""Being told when the kernel kills for want of memory, with groups of version 1. Clauses MON-016, MON-017."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from refimpl.backends.real.runtime.watcher import Watcher


def on_oom(watcher: Watcher, memory: Path, callback: Callable[[], None]) -> Callable[[], None]:
    """Have ``callback`` called, in the watcher's thread, each time that a group of ``memory`` runs out of memory.

    Args:
        memory: directory of the group.
        callback: must not wait.

    Returns:
        What takes it back.

    Raises:
        OSError: the group cannot be watched.
    """
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    control = -1
    try:
        control = os.open(memory / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        (memory / "cgroup.event_control").write_text(f"{event} {control}", encoding="ascii")
    except OSError:
        os.close(event)
        raise
    finally:
        if control >= 0:
            os.close(control)

    def ready() -> bool:
        os.eventfd_read(event)
        # The kernel writes once more when the group is removed.
        if not (memory / "memory.oom_control").exists():
            return False
        callback()
        return True

    return watcher.watch(event, ready)
