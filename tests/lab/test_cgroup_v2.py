"""Metrics, and kills for want of memory, with control groups of version 2 alone: what is told is what the files say.

The real containerd and refimpl do the same in one guest each, by Debian's shim and by ours (MON-012 to MON-015,
MON-017, MON-027).
"""

from __future__ import annotations

import faulthandler
import fcntl
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab import uml
from tests.lab.observing import LIMIT, PIDS_LIMIT, RUNTIMES

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.debian(uml.COMMAND, "insmod", "containerd", "ctr", "containerd-shim-runc-v2", "runc", "busybox"),
]

SECONDS = 400.0
"""After which a guest is given up; on a quiet machine it needs twenty, and ninety have been seen on a busy one."""

DAEMONS = ("containerd", "refimpl")
NO_LIMIT = (1 << 64) - 1

CPU = ("usage_usec", "user_usec", "system_usec", "throttled_usec", "nr_periods", "nr_throttled")
MEMORY = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate",
    "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree",
    "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip
"""Of memory.stat."""
MEMORY_EVENTS = ("low", "high", "max", "oom", "oom_kill")
IO = ("rbytes", "wbytes", "rios", "wios")

Observe = Callable[[str], dict[str, Any]]
Moment = Mapping[str, Any]
"""What observing notes at one moment: texts of ``files``, and ``json``, ``table`` and ``page``."""


@pytest.fixture
def observe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Observe:
    """What gives, by the name of a daemon, all that was observed of it: by the name of a runtime.

    A guest is booted once for all tests, and once more for those that run again because they have failed.
    """
    ground = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The directory of all workers: one of them boots, the others read what it has written.
        ground = ground.parent
    attempt = getattr(request.node, "execution_count", 1)

    def observed(daemon: str) -> dict[str, Any]:
        directory = ground / f"lab-{daemon}-{attempt}"
        directory.mkdir(exist_ok=True)
        # pytest gives one test less than a guest may need, or the one that another worker has booted.
        faulthandler.cancel_dump_traceback_later()
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (directory / "outcome").exists():
                (directory / "outcome").write_text(_boot(directory, daemon, repository), encoding="utf-8")
        failure = (directory / "outcome").read_text(encoding="utf-8")
        assert not failure, failure
        seen: dict[str, Any] = json.loads((directory / "seen.json").read_text(encoding="utf-8"))
        return seen

    return observed


def _boot(directory: Path, daemon: str, repository: Path) -> str:
    """Have a guest observe a daemon; what went wrong, or nothing."""
    disk = directory / "disk"
    disk.write_bytes(bytes(1 << 20))
    command = uml.python("-m", "tests.lab.observing", daemon, str(uml.SHARED / "seen.json"))
    outcome = uml.run(command, directory, seconds=SECONDS, cwd=repository, disk=disk)
    if left := uml.remaining(directory):
        return f"the guest has left {left}"
    if outcome.code != 0:
        return f"status {outcome.code}\n{outcome.output[-6000:]}\n{outcome.console[-2000:]}"
    return ""


@pytest.fixture(params=[f"{daemon}-{runtime}" for daemon in DAEMONS for runtime in RUNTIMES])
def seen(request: pytest.FixtureRequest, observe: Observe) -> dict[str, Any]:
    """What was observed of a daemon with a runtime."""
    daemon, runtime = request.param.split("-")
    found: dict[str, Any] = observe(daemon)[runtime]
    return found


@pytest.fixture(params=["limited", "unlimited"])
def moment(request: pytest.FixtureRequest, seen: dict[str, Any]) -> Moment:
    """A task that stands still, with and without limits."""
    found: Moment = seen["used"][request.param]
    return found


def number(files: Mapping[str, str], name: str) -> int:
    """What a file of one number says."""
    text = files[name].strip()
    return NO_LIMIT if text == "max" else int(text)


def table(files: Mapping[str, str], name: str) -> dict[str, int]:
    """What a file of names and numbers says."""
    return {key: int(value) for key, value in (line.split() for line in files[name].splitlines())}


def devices(files: Mapping[str, str]) -> list[dict[str, int]]:
    """What io.stat says, a device each."""
    found = []
    for line in files["io.stat"].splitlines():
        device, *words = line.split()
        major, minor = device.split(":")
        counts = {key: int(value) for key, value in (word.split("=") for word in words)}
        found.append({"major": int(major), "minor": int(minor), **{key: counts[key] for key in IO}})
    return found


def memory(files: Mapping[str, str]) -> dict[str, int]:
    """Fields of the message, from the files of memory."""
    stat = table(files, "memory.stat")
    return {
        **{name: stat.get(name, 0) for name in MEMORY},
        "usage": number(files, "memory.current"),
        "usage_limit": number(files, "memory.max"),
        "swap_usage": number(files, "memory.swap.current"),
        "swap_limit": number(files, "memory.swap.max"),
    }


def test_the_message_says_what_the_files_say(moment: Moment) -> None:
    files = moment["files"]
    cpu, events = table(files, "cpu.stat"), table(files, "memory.events")

    # Nothing but this: zeros are left out of the text, and what the kernel counts besides is not told.
    assert moment["json"] == {
        "pids": _some({"current": number(files, "pids.current"), "limit": number(files, "pids.max")}),
        "cpu": _some({name: cpu[name] for name in CPU}),
        "memory": _some(memory(files)),
        "rdma": {},
        "io": {"usage": [_some(device) for device in devices(files)]},
        "memory_events": _some({name: events[name] for name in MEMORY_EVENTS}),
    }


def _some(values: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in values.items() if value}


def test_the_page_says_what_the_files_say(moment: Moment) -> None:
    files = moment["files"]
    cpu = table(files, "cpu.stat")
    units = {name: f"{name}_total" if name.startswith("nr_") else f"{name}_microseconds" for name in CPU}
    expected = {
        "pids_current": number(files, "pids.current"),
        "pids_limit": number(files, "pids.max"),
        **{f"cpu_{unit}": cpu[name] for name, unit in units.items()},
        **{f"memory_{name}_bytes": value for name, value in memory(files).items()},
        "memory_oom_total": table(files, "memory.events")["oom"],
    }
    for device in devices(files):
        place = f"{device['major']}:{device['minor']}"
        for name in IO:
            unit = "bytes" if name.endswith("bytes") else "total"
            expected[f"io_{name}_{unit} {place}"] = device[name]

    assert series(moment["page"]) == {name: float(value) for name, value in expected.items()}


def series(page: str) -> dict[str, float]:
    """Values of the page about tasks, by family without ``container_``, and by device."""
    found = {}
    for name, labels, value in re.findall(r"^container_(\w+)\{(.*)\} (\S+)$", page, re.MULTILINE):
        of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[f"{name} {of['major']}:{of['minor']}" if "major" in of else name] = float(value)
    return found


def test_a_limit_is_told_as_it_is(seen: dict[str, Any]) -> None:
    limited, free = (seen["used"][name]["json"] for name in ("limited", "unlimited"))
    assert (limited["pids"]["limit"], limited["memory"]["usage_limit"]) == (PIDS_LIMIT, LIMIT)
    assert (free["pids"]["limit"], free["memory"]["usage_limit"]) == (NO_LIMIT, NO_LIMIT)
    assert limited["cpu"]["nr_periods"] > 0
    assert limited["io"]["usage"][0]["rbytes"] > 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_names_types_and_labels_are_those_of_containerd(observe: Observe, runtime: str) -> None:
    theirs, ours = (observe(daemon)[runtime]["used"]["limited"] for daemon in DAEMONS)

    assert _shape(ours["page"]) == _shape(theirs["page"])
    assert _rows(ours["table"]) == _rows(theirs["table"])


def _shape(page: str) -> set[str]:
    """Types of the families about tasks, and their lines without values."""
    lines = [line for line in page.splitlines() if line.startswith(("# TYPE container_", "container_"))]
    assert len(lines) > 80
    return {line if line.startswith("#") else _sorted_labels(line.rpartition(" ")[0]) for line in lines}


def _sorted_labels(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}"


def _rows(text: str) -> list[str]:
    """Names of the rows that ``ctr tasks metrics`` prints."""
    rows = [line.split()[0] for line in text.splitlines() if line]
    assert len(rows) == 15
    return rows


def test_a_container_that_wants_too_much_memory_ends_with_137_and_an_event_says_why(seen: dict[str, Any]) -> None:
    killed = seen["killed init"]

    assert "non-zero exit code 137" in killed["warning"]
    # Debian's shim notices the kill and the end side by side, and tells them in any order.
    first, second, *why, last = killed["topics"]
    assert (first, second, sorted(why), last) == (
        "/tasks/create",
        "/tasks/start",
        ["/tasks/exit", "/tasks/oom"],
        "/tasks/delete",
    )


@pytest.mark.parametrize("daemon", DAEMONS)
def test_our_shim_says_why_before_it_tells_the_end(observe: Observe, daemon: str) -> None:
    killed = observe(daemon)["ours"]["killed init"]

    assert killed["topics"] == ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]


def test_a_killed_child_is_told_while_the_task_goes_on(seen: dict[str, Any]) -> None:
    killed = seen["killed child"]
    events = table(killed["files"], "memory.events")

    assert events["oom_kill"] == 1
    assert killed["json"]["memory_events"] == _some({name: events[name] for name in MEMORY_EVENTS})
    assert series(killed["page"])["memory_oom_total"] == 1
    assert killed["topics"] == ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]
    assert "non-zero exit code 9" in killed["warning"]
