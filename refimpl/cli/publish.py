"""``refimpl publish``: one event, from standard input to a daemon's bus, as ``containerd publish`` does for shims.

Clauses DMN-062, DMN-063.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import DEFAULT_ADDRESS, Address
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny

_SECONDS = 2.0


def publish(
    topic: Annotated[str, typer.Option(help="Topic, such as /tasks/exit.")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the event.")] = "",
    address: Address = DEFAULT_ADDRESS,
    event: Annotated[Path | None, typer.Option(help="File to read the event from (default: standard input).")] = None,
) -> None:
    """Publish an event: a serialized google.protobuf.Any."""
    if not topic:
        raise fail("topic required to publish event: invalid argument")
    if not namespace:
        raise fail("namespace is required: failed precondition")
    with one_line_errors():
        data = event.read_bytes() if event is not None else sys.stdin.buffer.read()
        try:
            message = Any.FromString(data)
        except DecodeError as error:
            raise fail(f"the event is no google.protobuf.Any: {error}") from error
        with Client(address, timeout=_SECONDS) as client:
            client.events.publish(CallContext(namespace), topic, TypedAny(message.type_url, message.value))
