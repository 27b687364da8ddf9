"""``refimpl stop``: ask containers to end, and see to it that they do."""

from __future__ import annotations

from typing import Annotated

import typer

from refimpl.cli.failures import one_line_errors
from refimpl.cli.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, InNamespace, Socket
from refimpl.client import Client
from refimpl.client.running import signal_of
from refimpl.client.running import stop as stop_task
from refimpl.contract.context import CallContext

_SECONDS = 10.0


def stop(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Names of containers.")],
    timeout: Annotated[float, typer.Option("--timeout", "-t", help="Seconds to wait before killing.")] = _SECONDS,
    how: Annotated[str, typer.Option("--signal", "-s", help="Instead of the one that the image wants.")] = "",
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop containers: send each its image's stop signal (TERM, unless it names one), then KILL after --timeout.

    The containers stay, without a task: see refimpl rm.

    \b
    refimpl stop web
    refimpl stop --timeout 1 --signal INT web api
    """
    ctx = CallContext(namespace=namespace)
    with one_line_errors(), Client(address) as client:
        number = signal_of(how) if how else 0
        for id in ids:
            stop_task(ctx, client, id, seconds=timeout, how=number)
            print(id)
