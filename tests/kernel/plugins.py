"""Small plugins for the kernel's tests: named by ``type.id``, with an instance that says who it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refimpl.kernel import InitContext, Kernel, Registration

Init = Callable[[InitContext], object]


def plugin(uri: str, *requires: str, init: Init | None = None, **more: Any) -> Registration:
    """A registration; without ``init`` the instance is the URI."""
    type_, _, id_ = uri.rpartition(".")
    return Registration(type_, id_, init or (lambda ic: ic.uri), requires, **more)


def failing(error: Exception) -> Init:
    """An init that raises."""

    def init(_ic: InitContext) -> object:
        raise error

    return init


def kernel(*registrations: Registration, base: Path = Path("/nowhere"), **more: Any) -> Kernel:
    """A kernel below ``base``, where nothing is made."""
    return Kernel(registrations, root=base / "root", state=base / "state", **more)


def uris(registrations: Sequence[Registration]) -> list[str]:
    """Their names, in order."""
    return [registration.uri for registration in registrations]
