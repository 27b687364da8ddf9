"""Opening what a client names for standard streams: fifos, files, and URIs (TSK-017 to TSK-023, TSK-028, TSK-029)."""

from __future__ import annotations

import errno
import os
import stat
import time

from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, Unknown

READER_SECONDS = 30.0
"""How long a client may take to open the other side of its fifos (TSK-028)."""

_POLL = 0.005
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-."


class URI:
    """A stream's URI in parts; a plain path has no scheme.

    Attributes:
        scheme: lower case; ``fifo`` for a path.
        pairs: names and values of the query, in order.
    """

    def __init__(self, text: str) -> None:
        """Take a URI apart.

        Raises:
            Unknown: it is none.
        """
        scheme, colon, rest = text.partition(":")
        self.pairs: list[tuple[str, str]] = []
        if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text) or (colon and not scheme):
            raise Unknown(f"unable to parse stdio URI {text!r}", bare=False)
        if not colon or not scheme[0].isalpha() or any(letter not in _SCHEME_LETTERS for letter in scheme):
            self.scheme, self.path = "fifo", text
            return
        self.scheme = scheme.lower()
        path, _, query = rest.partition("?")
        if path.startswith("//"):
            _, slash, below = path[2:].partition("/")
            path = slash + below
        try:
            self.path = _unquoted(path)
            for pair in filter(None, query.split("&")):
                name, _, value = pair.partition("=")
                self.pairs.append((_unquoted(name, plus=True), _unquoted(value, plus=True)))
        except ValueError as error:
            raise Unknown(f"unable to parse stdio URI {text!r}: {error}", bare=False) from error


def _unquoted(text: str, *, plus: bool = False) -> str:
    first, *others = text.replace("+", " ").split("%") if plus else text.split("%")
    data = bytearray(first.encode())
    for other in others:
        if len(other) < 2:
            raise ValueError(f'invalid escape "%{other}"')
        data += bytes([int(other[:2], 16)]) + other[2:].encode()
    return data.decode(errors="surrogateescape")


def open_output(ctx: CallContext, path: str) -> tuple[int, list[int]]:
    """Open a fifo or an existing file for output.

    A fifo is kept open for reading as well, so that a client that goes away and comes back ends nothing.

    Returns:
        The descriptor, and others to be closed with it.

    Raises:
        DeadlineExceeded: nobody reads the fifo.
        Unknown: there is no such file, or it cannot be opened.
    """
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return _open_both_sides(ctx, path)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC), []
    except OSError as error:
        raise _failed("opening file", path, error) from error


def _open_both_sides(ctx: CallContext, path: str) -> tuple[int, list[int]]:
    writer = _open_fifo(ctx, path)
    try:
        return writer, [os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)]
    except OSError:
        os.close(writer)
        raise


def _open_fifo(ctx: CallContext, path: str) -> int:
    end = time.monotonic() + READER_SECONDS
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        ctx.check()
        if time.monotonic() >= end:
            raise DeadlineExceeded
        time.sleep(_POLL)


def open_log_file(ctx: CallContext, path: str) -> tuple[int, list[int]]:
    """Open the file of a ``file`` URI for appending, made with its directories if need be (TSK-020).

    One that is there may as well be a fifo or a device: nothing waits for whoever is behind it.

    Returns:
        As ``open_output``.

    Raises:
        DeadlineExceeded: nobody reads the fifo.
        Unknown: it cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        if os.path.exists(path):
            return open_output(ctx, path)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644), []
    except OSError as error:
        raise _failed("opening file", path, error) from error


def open_input(path: str) -> tuple[int, int]:
    """Open the fifo for standard input.

    Returns:
        The side to read from, and a writing side that keeps the input from ending before ``CloseIO`` (TSK-018).

    Raises:
        Unknown: there is no such fifo.
    """
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise Unknown(f'opening stdin "{path}": no fifo', bare=False)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed("opening stdin", path, error) from error
    try:
        return reader, os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        os.close(reader)
        raise _failed("opening stdin", path, error) from error


def _failed(doing: str, path: str, error: OSError) -> Unknown:
    return Unknown(f'{doing} "{path}": {(error.strerror or str(error)).lower()}', bare=False)
