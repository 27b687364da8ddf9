"""The fixture as other people get it, and a plain gRPC channel to it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from refimpl.testing import FakeContainerd
from refimpl.testing.pytest_plugin import containerd

__all__ = ["channel", "containerd"]


@pytest.fixture
def channel(containerd: FakeContainerd) -> Iterator[grpc.Channel]:
    """What a program without refimpl's client has."""
    # A pool of its own: a test that cuts connections must not meet another test's backoff.
    with grpc.insecure_channel(f"unix:{containerd.address}", options=[("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made
