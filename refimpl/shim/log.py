"""What a shim has to say: lines of key=value, on the fifo ``log`` of the bundle that it was started for (SHM-032)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from typing import Any

_LEVELS = {"WARNING": "warning", "CRITICAL": "fatal"}


class _Lines(logging.Handler):
    """Writes to standard error; a line for which there is no room is lost, since nothing may wait for a reader."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            os.write(2, _line(record).encode(errors="replace"))


def _line(record: logging.LogRecord) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    level = _LEVELS.get(record.levelname, record.levelname.lower())
    fields: dict[str, Any] = {"time": f"{at}.{int(record.msecs):03}Z", "level": level, "msg": record.getMessage()}
    fields |= getattr(record, "fields", {})
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items()) + "\n"


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(letter.isalnum() or letter in "-._/@^+" for letter in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def open_log(path: str, *, debug: bool) -> None:
    """Make a fifo standard error and the place of all log lines. Waits until somebody reads it.

    Without such a file, standard error is the log.
    """
    if os.path.exists(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        # Only now: a fifo without a reader would not open.
        os.set_blocking(2, False)
    root = logging.getLogger()
    root.addHandler(_Lines())
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def log_stacks() -> None:
    """Write down where every thread is (SHM-033). For Python's own time: another thread's frames stand still then."""
    frames = sys._current_frames()  # noqa: SLF001  # the documented way to them
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        with contextlib.suppress(OSError):
            os.write(2, f"thread {thread.name}:\n{stack}".encode(errors="replace"))
