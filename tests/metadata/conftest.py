"""A database in memory, under a clock that tests move by hand."""

from __future__ import annotations

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.metadata.database import Database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def database(store: MemoryStore, clock: FakeClock) -> Database:
    return Database(store, clock)
