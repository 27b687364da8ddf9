"""``refimpl rm``: remove containers with their snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from refimpl.cli.failures import one_line_errors
from refimpl.cli.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, InNamespace, Socket
from refimpl.client import Client
from refimpl.client.running import remove
from refimpl.contract.context import CallContext


def rm(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Names of containers.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Kill what runs before.")] = False,
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
) -> None:
    """Remove containers that have ended, each with its task and its snapshot.

    \b
    refimpl rm web
    refimpl rm --force web api
    """
    ctx = CallContext(namespace=namespace)
    with one_line_errors(), Client(address) as client:
        for id in ids:
            remove(ctx, client, id, force=force)
            print(id)
