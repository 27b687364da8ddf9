"""Which refs are taken (refimpl.contract.ref_locks)."""

from __future__ import annotations

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.contract.errors import Unavailable
from refimpl.contract.ref_locks import RefLocks


def test_a_ref_is_had_by_one_until_it_is_given_back() -> None:
    locks = RefLocks(FakeClock())
    locks.lock("one")
    locks.lock("other")
    with pytest.raises(Unavailable):
        locks.lock("one")
    assert locks.held() == {"one", "other"}
    locks.unlock("one")
    locks.unlock("one")
    locks.lock("one")


def test_a_refusal_says_for_how_long_and_since_when() -> None:
    clock = FakeClock()
    clock.advance(2)
    locks = RefLocks(clock)
    clock.advance(0.5)
    locks.lock("ref")
    clock.advance(1.25)
    with pytest.raises(Unavailable) as raised:
        locks.lock("ref")
    assert str(raised.value) == (
        "ref ref locked for 1.250000000s (since 2023-11-14 22:13:22.500000000 +0000 UTC m=+0.500000000): unavailable"
    )
