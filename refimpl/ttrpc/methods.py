"""What a ttrpc server asks of a unary method, and of whoever runs it.

Shapes, not classes: a server's own room need not know the kernel, whose ``TTRPCMethod`` is one such method, and a shim
that counts each millisecond of its start does not load it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from refimpl.contract.context import CallContext


class UnaryMethod(Protocol):
    """A method with one request and one answer."""

    @property
    def request(self) -> type[Any]:
        """The protobuf message class of the request."""
        ...

    @property
    def handler(self) -> Callable[[CallContext, Any], Any]:
        """Called with the context and the request; answers with the response message. Errors become its status."""
        ...


class Threads(Protocol):
    """Where calls run; any ``concurrent.futures.Executor`` will do."""

    def submit(self, fn: Callable[..., object], /, *args: Any) -> object:
        """Have a function called, in another thread.

        Raises:
            RuntimeError: nothing is run any more.
        """
        ...
