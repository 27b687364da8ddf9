"""A world with scripted shims, for the tests of the second runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.real.runtime.worlds import World, world


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world; its directory has a short name, because sockets lie in it."""
    with world(tmp_path_factory.mktemp("w")) as found:
        yield found
