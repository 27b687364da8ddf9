"""The program: one of ``start``, ``delete``, or the serving process itself."""

from __future__ import annotations

import gc
import os
import sys

from refimpl.contract.errors import ContainerdError
from refimpl.shim.flags import Flags, UsageError, usage

NAME = "containerd-shim-refimpl-v1"
"""What the runtime name io.containerd.refimpl.v1 stands for (SHM-001)."""


class ShimError(Exception):
    """A command cannot do its work; the message goes to standard error, the exit status is 1."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program; answers with its exit status.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    try:
        flags = Flags(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        return _complain(f"{error}\n{usage(NAME)}", 2)
    if flags.version:
        _print_version()
        return 0
    if not flags.namespace:
        return _complain(f"{NAME}: shim namespace cannot be empty", 1)
    # Each of these is a program of its own and loads what it needs; nobody pays for the other two.
    try:
        if flags.action == "start":
            from refimpl.shim.start import start  # noqa: PLC0415

            os.write(1, start(flags).encode())
            return 0
        if flags.action == "delete":
            from refimpl.shim.delete import delete  # noqa: PLC0415

            os.write(1, delete(flags))
            return 0
        # What is loaded stays: looking through it for garbage while it grows is a tenth of the time until the first
        # answer. ``serve`` turns this on when it listens.
        gc.disable()
        from refimpl.shim.serve import serve  # noqa: PLC0415

        return serve(flags)
    except (ShimError, ContainerdError, OSError) as error:
        return _complain(f"{NAME}: {_go_text(error)}", 1)
    finally:
        gc.enable()


def _go_text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return str(error)


def _complain(text: str, status: int) -> int:
    os.write(2, f"{text}\n".encode())
    return status


def _print_version() -> None:
    from refimpl import __version__  # noqa: PLC0415  # as above

    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    os.write(1, f"{NAME}:\n  Version:  {__version__}\n  Python version: {version}\n".encode())
