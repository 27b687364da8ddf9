"""How fast is refimpl beside the real containerd? Both do the same work in one run; what counts is the ratio.

    python -m benchmarks.beside_containerd [--json] [--rounds N] [--profile WORK] [--only WORD]

As root, with Debian's containerd and busybox. Each daemon has its own root on the same disk and is spoken to with the
same client over its socket, one after the other in every round, so that the machine's mood hits both. `--profile` runs
one kind of work on refimpl alone, under cProfile, and prints where its threads spend their time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from refimpl.client import Client
from refimpl.contract.context import CallContext
from tests.acceptance import daemons, images

CTX = CallContext(namespace="bench")
BLOB = os.urandom(1 << 20) * 32  # 32 MiB that no compressor and no file system makes smaller than they are

Work = Callable[["Side"], None]


@dataclass
class Side:
    """One of the two daemons.

    Attributes:
        seconds: what each kind of work took, a number a round.
    """

    name: str
    daemon: daemons.Daemon
    archives: images.Images
    seconds: dict[str, list[float]] = field(default_factory=dict)
    count: int = 0
    client: Client = field(init=False)

    def name_of(self, what: str) -> str:
        """A name that was not used before."""
        self.count += 1
        return f"{what}-{self.count}"

    def memory(self) -> int:
        """Resident bytes of the daemon's process."""
        assert self.daemon.process is not None
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def version(side: Side) -> None:
    """200 calls that do nothing: what a call costs."""
    for _ in range(200):
        side.client.version.version(CTX)


def leases(side: Side) -> None:
    """50 leases made and removed: what a transaction costs."""
    for _ in range(50):
        side.client.leases.delete(CTX, side.client.leases.create(CTX).id)


def upload(side: Side) -> None:
    """A blob of 32 MiB, written in pieces of 1 MiB, hashed and committed."""
    data = side.name_of("blob").encode() + BLOB
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    writer = side.client.content.writer(CTX, digest, total=len(data), expected=digest)
    for start in range(0, len(data), 1 << 20):
        writer.write(data[start : start + (1 << 20)])
    writer.commit(CTX, len(data), digest)
    writer.close()


def download(side: Side) -> None:
    """The largest blob there is, read once."""
    largest = max(side.client.content.walk(CTX), key=lambda info: info.size)
    reader = side.client.content.reader(CTX, largest.digest)
    for start in range(0, largest.size, 1 << 20):
        reader.read_at(start, 1 << 20)
    reader.close()


def snapshots(side: Side) -> None:
    """20 snapshots prepared, committed and removed on overlayfs."""
    snapshotter = side.client.snapshotter("overlayfs")
    labels = {"containerd.io/gc.root": "bench"}
    for _ in range(20):
        key = side.name_of("key")
        snapshotter.prepare(CTX, key, "", labels)
        snapshotter.commit(CTX, f"{key}-done", key, labels)
        snapshotter.remove(CTX, f"{key}-done")


def unpack(side: Side) -> None:
    """An image of three layers (2 MiB, busybox) imported and unpacked by ctr, then removed with all that it held."""
    for command in (
        ["images", "import", str(side.archives.oci)],
        ["images", "rm", "--sync", images.OCI_NAME],
    ):
        done = side.daemon.ctr("-n", "bench", *command)
        assert done.code == 0, done.stderr


def run(side: Side) -> None:
    """A container that says one word: ctr run --rm, through the runtime and the shim."""
    done = side.daemon.ctr("-n", "run", "run", "--rm", images.OCI_NAME, side.name_of("c"), "/bin/busybox", "true")
    assert done.code == 0, done.stderr


WORKS: dict[str, Work] = {work.__name__: work for work in (version, leases, upload, download, snapshots, unpack, run)}


def boot(side: Side) -> None:
    """From the start of the process to the first answer."""
    side.daemon.start()
    with Client(str(side.daemon.socket)) as client:
        client.version.version(CTX)


@contextmanager
def both() -> Iterator[list[Side]]:
    """The two sides, not yet started, on directories that vanish."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as top:
        base = Path(top)
        (base / "images").mkdir()
        archives = images.build(base / "images", images.program())
        sides = [
            Side("containerd", daemons.containerd(base / "c"), archives),
            Side("refimpl", daemons.refimpl(base / "r", backends="real"), archives),
        ]
        # Compiled once and kept, as in an installation, whatever the caller's Python is told.
        compiled = {"PYTHONPYCACHEPREFIX": str(base / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
        sides[1].daemon.env = {**sides[1].daemon.env, **compiled}
        try:
            yield sides
        finally:
            for side in sides:
                side.daemon.end()


def timed(side: Side, name: str, work: Work) -> None:
    """Do it once and write down how long it took."""
    begin = time.perf_counter()
    work(side)
    side.seconds.setdefault(name, []).append(time.perf_counter() - begin)


def measure(sides: list[Side], rounds: int, names: list[str]) -> dict[str, dict[str, float]]:
    """All rounds; for each kind of work the medians in milliseconds and their ratio, and memory in bytes."""
    for side in sides:
        for number in range(rounds + 1):
            timed(side, "boot" if number else "warming up", boot)
            side.daemon.stop()
        side.daemon.start()
        side.client = Client(str(side.daemon.socket), timeout=60)
        done = side.daemon.ctr("-n", "run", "images", "import", str(side.archives.oci))
        assert done.code == 0, done.stderr
    for number in range(rounds + 1):
        for side in sides:
            for name in names:
                timed(side, name if number else "warming up", WORKS[name])
        print(f"round {number} of {rounds}", file=sys.stderr)
    found = {}
    for name in ["boot", *names]:
        theirs, ours = (statistics.median(side.seconds[name]) * 1000 for side in sides)
        found[name] = {"containerd": round(theirs, 2), "refimpl": round(ours, 2), "ratio": round(ours / theirs, 2)}
    theirs_size, ours_size = (side.memory() for side in sides)
    found["memory"] = {"containerd": theirs_size, "refimpl": ours_size, "ratio": round(ours_size / theirs_size, 2)}
    for side in sides:
        side.client.close()
        side.daemon.stop()
    return found


def profile(side: Side, name: str) -> None:
    """One kind of work on refimpl, its daemon under cProfile in all threads."""
    file = str(side.daemon.base / "profile")
    command = list(side.daemon.command)
    side.daemon.command = [command[0], "-m", "benchmarks.profiled", file, *command[3:]]
    side.daemon.start()
    side.client = Client(str(side.daemon.socket), timeout=120)
    done = side.daemon.ctr("-n", "run", "images", "import", str(side.archives.oci))
    assert done.code == 0, done.stderr
    upload(side)
    for _ in range(10):
        WORKS[name](side)
    side.client.close()
    side.daemon.stop()
    pstats.Stats(file).sort_stats("tottime").print_stats(25)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_containerd", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(WORKS), help="this kind of work (may be repeated)")
    parser.add_argument("--profile", choices=list(WORKS))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if lacking := daemons.lacks_containerd():
        print(f"nothing to compare with: {lacking}", file=sys.stderr)
        return 2
    with both() as sides, suppress(KeyboardInterrupt):
        if chosen.profile:
            profile(sides[1], chosen.profile)
            return 0
        names = chosen.only or list(WORKS)
        if "download" in names and "upload" not in names:
            # There has to be something to read.
            names = ["upload", *names]
        found = measure(sides, chosen.rounds, names)
        if chosen.json:
            print(json.dumps(found, indent=2))
            return 0
        print(f"{'':12}{'containerd':>12}{'refimpl':>12}{'ratio':>8}   (ms, median of {chosen.rounds}; memory in MiB)")
        for name, row in found.items():
            unit = 1 << 20 if name == "memory" else 1
            print(f"{name:12}{row['containerd'] / unit:12.1f}{row['refimpl'] / unit:12.1f}{row['ratio']:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
