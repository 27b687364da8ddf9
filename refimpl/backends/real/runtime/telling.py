"""Events that the daemon tells of tasks itself, in the namespace of the container.

A shim of the second runtime tells its own; for it only the end of a task whose shim has died is told here. For the
first runtime everything but exits is. Clauses RT1-010, RT1-021, SHM-045, SHM-088, EVT-033 to EVT-039, EVT-042.
"""

from __future__ import annotations

import logging

from refimpl.api.task_events import Teller
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.contract.types import TypedAny

log = logging.getLogger("refimpl.runtime")


def teller(exchange: EventExchange, namespace: str, container: str) -> Teller:
    """Who tells the events of one container; what cannot be told is logged."""
    ctx = CallContext(namespace)

    def publish(topic: str, event: TypedAny) -> None:
        try:
            exchange.publish(ctx, topic, event)
        except Exception as error:  # noqa: BLE001  # what happened has happened, whether somebody hears of it or not
            log.error("failed to publish event", extra={"fields": {"topic": topic, "error": error}})

    return Teller(publish, container)
