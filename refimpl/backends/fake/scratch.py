"""Scratch directories on the fake host, below /tmp. A ``contract.scratch.Scratch``; twin: the real /tmp."""

from __future__ import annotations

import itertools

from refimpl.backends.fake.host import FakeHost
from refimpl.contract.mounts import RootFS

TMP = "/tmp"  # noqa: S108  # of a disk that is not there


class FakeScratch:
    """Directories with a number behind their prefix.

    Args:
        host: on whose disk.
    """

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._numbers = itertools.count(1)

    def make(self, prefix: str) -> tuple[str, RootFS]:
        path = f"{TMP}/{prefix}{next(self._numbers)}"
        with self._host.lock:
            self._host.fs.makedirs(TMP, 0o1777)
            self._host.fs.mkdir(path, 0o700)
            return path, self._host.fs.below(path)

    def remove(self, path: str) -> None:
        with self._host.lock:
            if self._host.fs.exists(path):
                self._host.fs.rmtree(path)
