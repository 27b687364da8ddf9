"""SIGKILL at random moments: nothing that was acknowledged is lost, nothing half made is seen, garbage goes.

A worker imports, unpacks, commits, uploads and removes until the daemon is killed under it; some daemons are killed
while they start. After each kill the databases are sound, and the next daemon on the root is looked at from all sides.
``REFIMPL_KILLS`` says how many kills there are; without it there are as many as fit into a minute and a half.
``REFIMPL_KILLS_SEED`` has the same be done again, as far as the moments of kills allow.
"""

import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refimpl.client import Client
from tests.acceptance import daemons
from tests.acceptance.killing import Ledger, Worker
from tests.acceptance.surviving import Survey, check_databases, databases

pytestmark = pytest.mark.root

log = logging.getLogger(__name__)

LANES = 2
"""Daemons on roots of their own, side by side: much of a round is the start of a process."""

SECONDS, LEAST = 90.0, 5
"""How long it goes on where nobody says how often, and the kills of a lane in any case."""

LONGEST = 0.5
"""Seconds after which the kill comes at the latest."""


class Lane:
    """One root, its daemon, and who works on it."""

    def __init__(self, base: Path, seed: int) -> None:
        self.daemon = daemons.refimpl(base, backends="real")
        self.seed = seed
        self.kills = 0
        self._chance = random.Random(seed)
        self._scratch = Path(tempfile.mkdtemp(prefix="client-", dir=base))
        self._worker = Worker(Ledger(), self._chance, self._scratch)

    def run(self, kills: int) -> None:
        """Kill and look, so many times; 0 until the time is over."""
        deadline = time.monotonic() + SECONDS
        while self.kills < (kills or LEAST) or (not kills and time.monotonic() < deadline):
            self._round()
        self.daemon.stop()

    def _round(self) -> None:
        if self._chance.random() < 0.1:
            process = self.daemon.spawn()
            time.sleep(self._chance.uniform(0, LONGEST))
            process.kill()
            process.wait()
            self.kills += 1
            check_databases(self.daemon.root)
        self.daemon.start()
        with Client(str(self.daemon.socket), timeout=daemons.COMMAND_SECONDS) as client:
            Survey(client, self.daemon.root, self._worker, self._scratch).check(self._chance, self.kills)
            self._work_until_killed(client)
        check_databases(self.daemon.root)

    def _work_until_killed(self, client: Client) -> None:
        process, killed = self.daemon.process, threading.Event()
        assert process is not None, "it was started"

        def kill() -> None:
            killed.set()
            process.kill()

        killer = threading.Timer(self._chance.uniform(0, LONGEST), kill)
        killer.start()
        try:
            self._worker.work(client)
        except Exception:
            # Whatever the client says of a daemon that is gone; while it runs no call may fail.
            if not killed.is_set():
                raise
        finally:
            killer.cancel()
        assert process.wait(daemons.STOP_SECONDS) == -signal.SIGKILL
        self.kills += 1


def test_what_was_acknowledged_outlives_any_kill(base: Path, record_property: Callable[[str, object], None]) -> None:
    kills = int(os.environ.get("REFIMPL_KILLS", "0"))
    seed = int(os.environ.get("REFIMPL_KILLS_SEED", "0")) or random.randrange(1 << 32)
    lanes = [Lane(base / str(number), seed + number) for number in range(LANES)]
    record_property("seed", seed)
    log.warning("seed %d", seed)
    try:
        with ThreadPoolExecutor(LANES) as pool:
            for lived in [pool.submit(lane.run, -(-kills // LANES)) for lane in lanes]:
                lived.result()
    finally:
        for lane in lanes:
            lane.daemon.end()
    record_property("kills", sum(lane.kills for lane in lanes))
    log.warning("%d kills", sum(lane.kills for lane in lanes))
    for lane in lanes:
        for path in databases(lane.daemon.root):
            command = [sys.executable, "-m", "refimpl", "bolt", "check", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout[:7]) == (0, "sound: "), done.stdout + done.stderr
