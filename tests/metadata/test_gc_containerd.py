"""The model that judges our garbage collection, judged by the real containerd: both keep the same of any graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from refimpl.client import Client
from refimpl.contract.context import CallContext
from tests.acceptance import daemons
from tests.metadata.graphs import GRAPHS, Graph, Stores, build, survivors

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd")]

NUMBERS = count()
"""Each graph gets namespaces of its own on the one daemon."""


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    base: Path = tmp_path_factory.mktemp("gc")
    daemon = daemons.containerd(base)
    # Intervals of hours: nothing is collected while a graph is half built.
    daemons.write_config(daemon, "pause_threshold = 0.000001\nmutation_threshold = 0\n")
    with daemons.running(daemon), Client(str(daemon.socket)) as client:
        snapshots = client.snapshotter("native")
        stores = Stores(client.content, snapshots, client.images, client.containers, client.leases)
        _collect(stores)
        yield stores


def _collect(stores: Stores) -> None:
    ctx = CallContext("gc")
    stores.leases.create(ctx, "collect")
    stores.leases.delete(ctx, "collect", sync=True)


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(graph=GRAPHS)
def test_the_real_containerd_keeps_what_the_model_keeps(containerd: Stores, graph: Graph) -> None:
    suffix = f"-{next(NUMBERS)}"
    build(containerd, graph, suffix)
    _collect(containerd)
    assert survivors(containerd, graph, suffix) == graph.held()
