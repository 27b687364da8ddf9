"""The command line, and a daemon to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.commands import Command
from tests.daemon.inprocess import configured, running


@pytest.fixture
def refimpl(capsys: pytest.CaptureFixture[str]) -> Command:
    """The ``refimpl`` command."""
    return Command(capsys)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a running daemon."""
    base = tmp_path_factory.mktemp("c")
    with running(configured(base)) as daemon:
        yield daemon.configuration.grpc.address
