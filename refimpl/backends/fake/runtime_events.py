"""Events of tasks, told in the namespace of the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refimpl.api.task_events import Teller
from refimpl.contract.context import CallContext

if TYPE_CHECKING:
    from refimpl.contract.events import EventExchange


class ExchangeHolder:
    """The bus of the daemon that runs now.

    Attributes:
        now: replaced when a daemon starts again on the same host.
    """

    def __init__(self, exchange: EventExchange) -> None:
        self.now = exchange


def teller(exchange: ExchangeHolder, namespace: str, container: str) -> Teller:
    """Who tells the events of one container. A restarted daemon has a new bus, so it is asked for at each event."""
    ctx = CallContext(namespace)
    return Teller(lambda topic, event: exchange.now.publish(ctx, topic, event), container)
