"""A differ of another process, for the checks: it does nothing or fails as told, and counts what it was asked."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from refimpl.api import diff_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.api.diff_v1_pb2_grpc import DiffServicer, add_DiffServicer_to_server

ID = "conform"
"""Of the proxy plugin."""

ANSWER = types_pb2.Descriptor(media_type="conformance/answer", digest="sha256:" + "c" * 64, size=3)
"""What it answers when it answers."""

CONFIG = """version = 2
[proxy_plugins.{id}]
type = "diff"
address = "{address}"
[plugins."io.containerd.service.v1.diff-service"]
default = {order}

# No collection of the daemon's own accord: what a check compares is under no lease here.
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1h"
"""


class OtherDiffer(DiffServicer):
    """A differ behind a socket.

    Attributes:
        fails: with which code; None for an answer.
        calls: names of the methods that were called.
    """

    def __init__(self) -> None:
        self.fails: grpc.StatusCode | None = None
        self.calls: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="cfm-"))
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_DiffServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self._folder}/diff.sock")
        self._server.start()

    def config(self, *order: str) -> str:
        """The configuration of a daemon that tries differs in this order."""
        return CONFIG.format(id=ID, address=self._folder / "diff.sock", order=list(order)).replace("'", '"')

    def Apply(self, request: pb.ApplyRequest, context: grpc.ServicerContext) -> pb.ApplyResponse:
        """As told."""
        self._called("Apply", context)
        return pb.ApplyResponse(applied=ANSWER)

    def Diff(self, request: pb.DiffRequest, context: grpc.ServicerContext) -> pb.DiffResponse:
        """As told."""
        self._called("Diff", context)
        return pb.DiffResponse(diff=ANSWER)

    def _called(self, name: str, context: grpc.ServicerContext) -> None:
        self.calls.append(name)
        if self.fails is not None:
            context.abort(self.fails, "as told")

    def close(self) -> None:
        """Stop, and leave nothing behind."""
        self._server.stop(0).wait(5)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def other() -> Iterator[OtherDiffer]:
    """A differ of another process."""
    differ = OtherDiffer()
    yield differ
    differ.close()
