"""io.containerd.monitor.v1.cgroups: metrics and out-of-memory events of tasks.

There is one for both worlds: all it knows of a task is its ``stats``, read at each scrape (MON-021), and its word of
out-of-memory kills. Those of the first runtime's tasks are told and counted here; a task of the second one tells its
own (MON-016). Nothing is kept on disk. Clauses MON-002 to MON-025, RT1-024.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any

from refimpl.api import event_types_pb2, typeurl
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, NotFound
from refimpl.contract.events import EventExchange
from refimpl.contract.runtimes import OOMSource, Task
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.events import announce
from refimpl.services.monitor_series import Series, series
from refimpl.services.plugin_types import EVENT, MONITOR

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

log = logging.getLogger("refimpl.monitor")

_OOM_COUNT = "container_memory_oom"

STAT_SECONDS = 2.0
"""How long a task may take to tell its numbers: a shim that has stopped must not keep all others off the page."""


@dataclass(frozen=True, slots=True)
class Config:
    """The section (MON-019).

    Attributes:
        no_prometheus: offer no series; events go on (MON-018).
    """

    no_prometheus: bool = False


@dataclass(eq=False)
class _Watched:
    """A task that is watched.

    Attributes:
        labels: of its series, besides the two that all have.
        kills: out-of-memory kills so far; None where somebody else counts them.
    """

    task: Task
    labels: dict[str, str]
    kills: int | None = None
    forget: Callable[[], None] = field(default=lambda: None)


class CgroupMonitor:
    """A ``contract.runtimes.TaskMonitor`` that shows its tasks to Prometheus.

    Args:
        exchange: where kills are told.
        shown: whether there are series at all.
    """

    def __init__(self, exchange: EventExchange, *, shown: bool = True) -> None:
        self._exchange = exchange
        self._shown = shown
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, str], _Watched] = {}

    def monitor(self, task: Task, labels: Mapping[str, str]) -> None:
        """Watch a task; another one that had its names before is forgotten (MON-023)."""
        key = (task.namespace, task.id)
        with self._lock:
            known = self._tasks.get(key)
            if known is not None and known.task is task:
                return
            watched = self._tasks[key] = _Watched(task, dict(labels))
        if known is not None:
            known.forget()
        if isinstance(task, OOMSource):
            watched.kills = 0
            watched.forget = task.on_oom(lambda: self._killed(watched))

    def stop(self, task: Task) -> None:
        """Stop watching; a task that is not watched is no error."""
        with self._lock:
            watched = self._tasks.get((task.namespace, task.id))
            if watched is None or watched.task is not task:
                return
            del self._tasks[task.namespace, task.id]
        watched.forget()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        with self._lock:
            tasks, self._tasks = list(self._tasks.values()), {}
        for watched in tasks:
            watched.forget()

    def _killed(self, watched: _Watched) -> None:
        watched.kills = (watched.kills or 0) + 1
        event = event_types_pb2.TaskOOM(container_id=watched.task.id)
        announce(self._exchange, CallContext(watched.task.namespace), "/tasks/oom", event)

    # --- Prometheus

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Offer the series on the daemon's page."""
        if self._shown:
            registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before there are tasks (MON-002)."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The series of all tasks, read now; a task that cannot be read is left out (MON-022)."""
        # Costs a tenth of a second of the start, and metrics are off by default.
        from prometheus_client.core import Metric  # noqa: PLC0415

        with self._lock:
            tasks = list(self._tasks.values())
        families: dict[str, Metric] = {}
        for watched in tasks:
            labels = {"container_id": watched.task.id, "namespace": watched.task.namespace}
            for one in self._read(watched.task):
                family = families.setdefault(one.name, Metric(one.name, one.help, "gauge"))
                family.add_sample(one.name, {**labels, **watched.labels, **one.labels}, one.value)
            if watched.kills is not None:
                text = "Processes killed because the task ran out of memory"
                family = families.setdefault(_OOM_COUNT, Metric(_OOM_COUNT, text, "counter"))
                family.add_sample(f"{_OOM_COUNT}_total", labels, watched.kills)
        return families.values()

    def _read(self, task: Task) -> list[Series]:
        try:
            data = task.stats(_hurried(task))
            return series(typeurl.unpack(Any(type_url=data.type_url, value=data.value)))
        except Exception as error:  # noqa: BLE001  # any runtime's code: the scrape goes on with the others (MON-022)
            log.error("stat task %s", task.id, extra={"fields": {"error": error}})
            if not isinstance(error, DeadlineExceeded) and _is_gone(task):
                # With its shim, and not by a delete that ends the watch: once is enough.
                self.stop(task)
            return []


def _hurried(task: Task) -> CallContext:
    return CallContext(task.namespace, deadline=time.monotonic() + STAT_SECONDS)


def _is_gone(task: Task) -> bool:
    try:
        task.state(_hurried(task))
    except NotFound:
        return True
    except Exception:  # noqa: BLE001  # as above: whatever it is, it is not gone
        return False
    return False


def init(ic: InitContext) -> CgroupMonitor:
    """Make the monitor."""
    return CgroupMonitor(ic.get(EVENT), shown=not ic.config.no_prometheus)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The monitor."""
    return [Registration(MONITOR, "cgroups", init=init, requires=(EVENT,), config=Config, platforms=True)]
