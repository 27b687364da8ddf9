"""A daemon inside the test's own process: everything but signals and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from refimpl.daemon.serve import Daemon
from refimpl.kernel import Configuration
from refimpl.kernel.config import GRPCConfig


def configured(base: Path, grpc: dict[str, Any] | None = None, **more: Any) -> Configuration:
    """A configuration whose paths lie below ``base``."""
    settings = GRPCConfig(address=str(base / "c.sock"), **(grpc or {}))
    return replace(Configuration(root=str(base / "root"), state=str(base / "state"), grpc=settings), **more)


@contextmanager
def running(configuration: Configuration) -> Iterator[Daemon]:
    """A daemon on fakes, open; stopped on leaving."""
    daemon = Daemon(configuration, "fake")
    try:
        daemon.boot()
        daemon.open()
        yield daemon
    finally:
        daemon.stop()
