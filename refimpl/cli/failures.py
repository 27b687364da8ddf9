"""How a command fails: one line on standard error and a status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from refimpl.api.status import text_of
from refimpl.contract.errors import ContainerdError
from refimpl.kernel import ConfigError, RegistrationError


def fail(message: str, status: int = 1) -> typer.Exit:
    """Say what is wrong; the answer is to be raised."""
    print(f"refimpl: {message}", file=sys.stderr)
    return typer.Exit(status)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What may go wrong without anybody's mistake in our code ends the command with status 1.

    Raises:
        typer.Exit: in place of such an error.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (ContainerdError, ConfigError, RegistrationError, OSError) as error:
        raise fail(text_of(error)) from error
