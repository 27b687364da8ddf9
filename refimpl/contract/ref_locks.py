"""Which ingests somebody writes right now: one writer for each ref, refused at once (CNT-034, CNT-036).

A store of any kind keeps one of these beside its ingests. A lock is a matter of this process and never on disk: no
crash leaves one behind (CNT-098).
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from refimpl.contract.errors import Unavailable
from refimpl.contract.times import SECOND, Clock


class RefLocks:
    """The refs that are taken, each since a moment that a refusal tells.

    Args:
        clock: for these moments.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._mutex = threading.Lock()
        self._since: dict[str, int] = {}

    def lock(self, ref: str) -> None:
        """Take a ref.

        Raises:
            Unavailable: somebody has it.
        """
        with self._mutex:
            since = self._since.get(ref)
            if since is not None:
                raise Unavailable(f"ref {ref} locked for {self._told(since)}")
            self._since[ref] = self._clock.now()

    def unlock(self, ref: str) -> None:
        """Give a ref back; one that nobody has is no error."""
        with self._mutex:
            self._since.pop(ref, None)

    def held(self) -> set[str]:
        """The refs that are taken as of this call."""
        with self._mutex:
            return set(self._since)

    def _told(self, since: int) -> str:
        """A span and a time as Go prints them; clients show this text."""
        seconds = (self._clock.now() - since) / SECOND
        span = f"{seconds * 1000:.6f}ms" if seconds < 1 else f"{seconds:.9f}s"
        whole, fraction = divmod(since, SECOND)
        moment = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%d %H:%M:%S")
        age = self._clock.monotonic() - self._started - seconds
        return f"{span} (since {moment}.{fraction:09d} +0000 UTC m=+{age:.9f})"
