"""Streams on the serving side: what a streaming method is, and how its handler speaks to the client (ttrpc 1.2).

::

    client:  request (REMOTE_OPEN) -- data -- data -- data (REMOTE_CLOSED | NO_DATA)
    server:                      data -- data -- data (REMOTE_CLOSED)         one answer or many
             or at any time      response with a status                       the stream is over

containerd 1.6 itself makes unary calls only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from refimpl.contract.context import CallContext
from refimpl.contract.errors import ResourceExhausted
from refimpl.ttrpc.inbox import Inbox

BACKLOG = 1024
"""Most messages that may wait for a handler; a client that sends more before they are taken loses the stream."""


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method that takes or gives many messages.

    Attributes:
        request: the protobuf message class of what the client sends.
        handler: called with the call context and the stream; what it returns is the last or only answer, None for no
            further message. ``contract.errors`` end the stream with their status.
        many_answers: whether it answers with a stream; otherwise with what the handler returns.
    """

    request: type[Any]
    handler: Callable[[CallContext, ServerStream], Any]
    many_answers: bool = True


class ServerStream:
    """One open stream, as its handler sees it. Iterate to get the client's messages until it has sent all.

    Args:
        ctx: of the call.
        parse: makes a message of a payload.
        send: sends a message to the client.
    """

    def __init__(self, ctx: CallContext, parse: Callable[[bytes], Any], send: Callable[[Any], None]) -> None:
        self._ctx = ctx
        self._parse = parse
        self._send = send
        self._inbox: Inbox[bytes] = Inbox(BACKLOG)

    def receive(self) -> Any:
        """The client's next message; waits for it. None when it has sent all.

        Raises:
            Internal: a message that does not parse.
            Canceled, DeadlineExceeded: the client is gone, or its time is over.
            ResourceExhausted: more arrived than was taken.
        """
        payload = self._inbox.take(self._ctx)
        return None if payload is None else self._parse(payload)

    def __iter__(self) -> Iterator[Any]:
        while (message := self.receive()) is not None:
            yield message

    def send(self, message: Any) -> None:
        """Send one of many answers.

        Raises:
            Canceled: the client is gone.
            ResourceExhausted: the message is over the limit.
        """
        self._send(message)

    def deliver(self, payload: bytes) -> None:
        """Take in a message from the wire; the connection's side of the stream. Never waits."""
        if not self._inbox.put(payload):
            self._inbox.end(ResourceExhausted(f"more than {BACKLOG} messages wait for the handler", bare=True))

    def sent_all(self) -> None:
        """The client has sent all; the connection's side of the stream."""
        self._inbox.end()
