"""The metrics endpoint: Prometheus' text format on ``/v1/metrics``.

Counters of the gRPC server with Go's names and labels, present with 0 for every registered method, and the process's
own numbers. Clauses DMN-035, DMN-036.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from refimpl.daemon.http import Page, Query, Route
from refimpl.daemon.rpc import kind_of, name_of

CODES = tuple(name_of(code) for code in grpc.StatusCode)
"""Every status, in Go's spelling."""

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What one daemon counts.

    Args:
        version, revision: of the build.
        histogram: whether to measure how long calls take.
    """

    def __init__(self, version: str, revision: str, *, histogram: bool) -> None:
        # Go's client has no such series, and they would double the page.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        build = Gauge(
            "containerd_build_info_total",
            "containerd build information",
            ("version", "revision"),
            registry=self.registry,
        )
        build.labels(version, revision).set(1)
        self.started = self._counter("started", "RPCs started on the server")
        self.handled = self._counter("handled", "RPCs completed on the server", "grpc_code")
        self.received = self._counter("msg_received", "messages received on the server")
        self.sent = self._counter("msg_sent", "messages sent by the server")
        self.seconds = (
            Histogram(
                "grpc_server_handling_seconds", "How long calls take, in seconds.", _METHOD, registry=self.registry
            )
            if histogram
            else None
        )

    def _counter(self, name: str, of: str, *labels: str) -> Counter:
        return Counter(f"grpc_server_{name}", f"Total number of {of}.", (*_METHOD, *labels), registry=self.registry)

    def know(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        """Show every method with 0 before its first call."""
        for service, methods in services.items():
            for method, handler in methods.items():
                labels = (kind_of(handler), service, method)
                for counter in (self.started, self.received, self.sent):
                    counter.labels(*labels)
                for code in CODES:
                    self.handled.labels(*labels, code)
                if self.seconds is not None:
                    self.seconds.labels(*labels)

    def observe(self, service: str, method: str, kind: str) -> CallCounter:
        """Count one call."""
        return CallCounter(self, (kind, service, method))

    def routes(self) -> dict[str, Route]:
        """The endpoint's only page."""
        return {"/v1/metrics": self._page}

    def _page(self, _query: Query) -> Page:
        return Page(generate_latest(self.registry), _CONTENT_TYPE)


class CallCounter:
    """Counts what one call does (``rpc.CallObserver``)."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str]) -> None:
        self._metrics, self._labels = metrics, labels
        self._begin = time.monotonic()
        metrics.started.labels(*labels).inc()

    def received(self) -> None:
        """A message came in."""
        self._metrics.received.labels(*self._labels).inc()

    def sent(self) -> None:
        """A message goes out."""
        self._metrics.sent.labels(*self._labels).inc()

    def ended(self, code: str) -> None:
        """The call is over."""
        self._metrics.handled.labels(*self._labels, code).inc()
        if self._metrics.seconds is not None:
            self._metrics.seconds.labels(*self._labels).observe(time.monotonic() - self._begin)
