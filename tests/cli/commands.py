"""Running ``refimpl`` inside the test's process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from refimpl.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


class Command:
    """Runs commands and reads what they print."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Done:
        status = main(arguments)
        printed = self._capture.readouterr()
        return Done(status, printed.out, printed.err)
