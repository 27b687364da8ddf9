"""The debug endpoint: ``/debug/vars`` and what corresponds to Go's ``/debug/pprof/`` in a Python process.

Profiles are text: stacks with counts, which flame graph tools read. Clause DMN-034.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from refimpl.daemon.http import Page, Query, Route
from refimpl.daemon.signals import stacks

_SAMPLES_PER_SECOND = 100
_MAX_SECONDS = 60.0


def routes() -> dict[str, Route]:
    """Every page of the endpoint."""
    pages: dict[str, Route] = {
        "cmdline": _cmdline,
        "profile": _profile,
        "symbol": lambda _query: _text("num_symbols: 0\n"),
        "trace": _trace,
        "goroutine": lambda _query: _text(stacks()),
        "threadcreate": _threads,
        "heap": _heap,
        "allocs": _heap,
        "block": lambda _query: _text("not measured in a Python process\n"),
        "mutex": lambda _query: _text("not measured in a Python process\n"),
    }
    index = "".join(f"{name}\n" for name in sorted(pages))
    below = {f"/debug/pprof/{name}": page for name, page in pages.items()}
    return {"/debug/vars": _vars, "/debug/pprof/": lambda _query: _text(index), **below}


def _text(text: str) -> Page:
    return Page(text.encode())


def _vars(_query: Query) -> Page:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values = {
        "cmdline": _arguments(),
        "memstats": {
            "MaxResident": usage.ru_maxrss * 1024,
            "NumGC": sum(generation["collections"] for generation in gc.get_stats()),
        },
        "threads": threading.active_count(),
    }
    return Page(json.dumps(values).encode(), "application/json; charset=utf-8")


def _cmdline(_query: Query) -> Page:
    return _text("\0".join(_arguments()))


def _arguments() -> list[str]:
    return Path(f"/proc/{os.getpid()}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def _threads(_query: Query) -> Page:
    return _text("".join(f"{thread.name}\n" for thread in threading.enumerate()))


def _heap(_query: Query) -> Page:
    counts = Counter(type(item).__qualname__ for item in gc.get_objects())
    lines = (f"{count:>8} {name}\n" for name, count in counts.most_common(100))
    return _text("objects by type, as the garbage collector sees them\n" + "".join(lines))


def _profile(query: Query) -> Page:
    counts = Counter(";".join(sample) for _, sample in _samples(_seconds(query, 30.0)))
    return _text("".join(f"{stack} {count}\n" for stack, count in counts.most_common()))


def _trace(query: Query) -> Page:
    begin = time.monotonic()
    lines = (f"{moment - begin:.3f} {';'.join(sample)}\n" for moment, sample in _samples(_seconds(query, 1.0)))
    return _text("".join(lines))


def _seconds(query: Query, default: float) -> float:
    return min(float(query.get("seconds", default)), _MAX_SECONDS)


def _samples(seconds: float) -> list[tuple[float, list[str]]]:
    """The stacks of all other threads, outermost call first, many times a second, each with its moment."""
    pause = threading.Event()
    me = threading.get_ident()
    samples: list[tuple[float, list[str]]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frames = sys._current_frames()  # noqa: SLF001  # the documented way to other threads' frames
        samples += [(time.monotonic(), _calls(frame)) for ident, frame in frames.items() if ident != me]
        pause.wait(1 / _SAMPLES_PER_SECOND)
    return samples


def _calls(frame: FrameType | None) -> list[str]:
    calls = []
    while frame is not None:
        calls.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return calls[::-1]
