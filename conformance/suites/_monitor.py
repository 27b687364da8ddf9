"""Words for the checks of the cgroup monitor: a daemon that shows its metrics, and what stands on that page."""

from __future__ import annotations

import os
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from conformance.subjects.base import SubjectError
from conformance.suites._boxes import Boxes
from conformance.suites._tasks import PATIENCE, Box

PLUGIN = "io.containerd.monitor.v1.cgroups"

Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Name of a series without ``container_`` -> labels and value of each."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of the metrics address."""

    status: int
    kind: str
    text: str


class Metered(Boxes):
    """The boxes of a daemon, and what it tells of them.

    Args:
        port: of its metrics address.
    """

    def __init__(self, instance: Any, port: int) -> None:
        super().__init__(instance)
        self._port = port

    def get(self, path: str, *, seconds: float = PATIENCE) -> Page:
        """Any page of the metrics address."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=seconds) as answer:
                return Page(answer.status, answer.headers["Content-Type"] or "", answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, error.headers["Content-Type"] or "", "")

    def text(self) -> str:
        """The page of metrics; for a daemon in this process, what it would put there of its tasks."""
        if "in-process" in self.instance.capabilities:
            registry = CollectorRegistry()
            self.instance.plugin("io.containerd.monitor.v1", "cgroups").register_metrics(registry)
            return generate_latest(registry).decode()
        page = self.get("/v1/metrics")
        assert page.status == 200, f"the scrape was answered with status {page.status}"
        return page.text

    def lines(self) -> list[str]:
        """The lines about tasks."""
        return [line for line in self.text().splitlines() if line.startswith("container_")]

    def kinds(self) -> dict[str, str]:
        """Full name of each family about tasks -> its type."""
        lines = [line.split() for line in self.text().splitlines() if line.startswith("# TYPE container_")]
        return {name: kind for _, _, name, kind in lines}

    def scrape(self) -> Samples:
        """All series about tasks."""
        found: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name.startswith("container_"):
                    found.setdefault(sample.name.removeprefix("container_"), []).append((sample.labels, sample.value))
        return found

    def values(self, box: Box) -> dict[str, float]:
        """The series of one task that need no more labels to be told apart: name -> value."""
        plain = {"container_id", "namespace", "runtime"}
        return {
            name: value
            for name, samples in self.scrape().items()
            for labels, value in samples
            if set(labels) <= plain and (labels["container_id"], labels["namespace"]) == (box.id, box.ctx.namespace)
        }


Meter = Callable[..., Metered]


@pytest.fixture
def meter(own: Any) -> Iterator[Meter]:
    """A daemon of the check's own that shows its metrics: ``boxes = meter(config)``."""
    made: list[Metered] = []

    def start(config: str = "", tries: int = 3) -> Metered:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        try:
            instance = own(config=f'version = 2\n[metrics]\naddress = "127.0.0.1:{port}"\n{config}')
        except SubjectError:
            # Somebody else on the machine may have taken the port meanwhile.
            if tries == 1:
                raise
            return start(config, tries - 1)
        made.append(Metered(instance, port))
        return made[-1]

    yield start
    for boxes in made:
        boxes.close()


def server_of(address: str) -> int:
    """Pid of the process that made a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def listening(pid: int) -> set[int]:
    """The TCP ports on which a process of this machine listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))  # noqa: PTH115  # no path
    ports = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def parent_of(pid: int) -> int:
    """Pid of a process's parent: of init, the shim."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
