"""One call: what the wire says becomes a ``CallContext``, what is raised becomes a status.

Every servicer's method is written for the contract (``self, request, ctx``) and takes this way in and out, so
headers, deadlines, cancellation and errors are treated in one place. Clauses SVC-018 to 025, SVC-057 to 059, SVC-065,
NSP-024, LEA-021, LEA-027.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import NoReturn, TypeVar

import grpc

from refimpl.api import status
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded

log = logging.getLogger("refimpl.grpc")

NAMESPACE = "containerd-namespace"
LEASE = "containerd-lease"

_NO_LEASE = "\0"
"""Stands for a lease header without a value: a lease that never exists, so calls that would add to it fail (LEA-021).

No header can name it, because headers hold no control characters.
"""

_STATUS = {each.value[0]: each for each in grpc.StatusCode}

S = TypeVar("S")
Q = TypeVar("Q")
R = TypeVar("R")


def call_context(context: grpc.ServicerContext) -> CallContext:
    """What a call carries besides its request.

    Of several values under one name the first counts (SVC-022, LEA-027). The end of the call, for whatever reason,
    cancels.
    """
    headers: dict[str, str] = {}
    for key, value in context.invocation_metadata():
        headers.setdefault(key, value.decode("latin-1") if isinstance(value, bytes) else value)
    cancel = CancelToken()
    if not context.add_callback(cancel.cancel):
        cancel.cancel()
    namespace, lease = headers.pop(NAMESPACE, ""), headers.pop(LEASE, None)
    return CallContext(
        namespace=namespace,
        lease=_NO_LEASE if lease == "" else lease or "",
        deadline=_deadline(context.time_remaining()),
        cancel=cancel,
        headers=headers,
    )


def _deadline(remaining: float | None) -> float | None:
    """When the caller stops waiting, on our monotonic clock; None if it never does.

    Without a deadline grpc promises None and gives centuries, more seconds than a lock can wait.
    """
    return None if remaining is None or remaining > threading.TIMEOUT_MAX else time.monotonic() + remaining


def unary(method: Callable[[S, Q, CallContext], R]) -> Callable[[S, Q, grpc.ServicerContext], R]:
    """A method with one answer, as gRPC calls it."""

    @wraps(method)
    def served(self: S, request: Q, context: grpc.ServicerContext) -> R:
        try:
            return method(self, request, call_context(context))
        except Exception as error:  # noqa: BLE001  # the boundary: whatever a plugin raises, the client gets a status
            _refuse(context, error)

    return served


def streaming(
    method: Callable[[S, Q, CallContext], Iterator[R | None]],
) -> Callable[[S, Q, grpc.ServicerContext], Iterator[R]]:
    """A method with a stream of answers, as gRPC calls it; the request may be a stream as well.

    A None among the answers sends the response headers now, for a stream that may stay silent for long.
    """

    @wraps(method)
    def served(self: S, request: Q, context: grpc.ServicerContext) -> Iterator[R]:
        answers = method(self, request, call_context(context))
        try:
            for answer in answers:
                if answer is None:
                    context.send_initial_metadata(())
                else:
                    yield answer
        except Exception as error:  # noqa: BLE001  # as above
            _refuse(context, error)

    return served


def _refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End the call with the status of ``error``; its text is the client's, its trace ours."""
    if not context.is_active() and not isinstance(error, Canceled | DeadlineExceeded):
        # The client is gone; grpc raised this in the middle of our work, and nobody reads a status. Work that stopped
        # because of that has not failed: raising its error would log a trace for every wait that is given up.
        raise error
    if not isinstance(error, ContainerdError | OSError):
        log.error("unexpected error in a call", exc_info=error)
    context.abort(_STATUS[status.code_of(error)], status.text_of(error))
