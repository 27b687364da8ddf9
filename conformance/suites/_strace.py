"""Words for checks that have a daemon's system calls traced."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_LINE = re.compile(r"(?P<thread>\d+) +(?P<at>\d+\.\d+) (?P<text>.*)")
_SPLIT = re.compile(r"(?P<begun>.*) <unfinished \.\.\.>\Z")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)")
_CALL = re.compile(
    r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<file><[^>]*>)?.* <(?P<took>\d+\.\d+)>\Z"
)


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A call that succeeded.

    Attributes:
        arguments: as strace writes them; descriptors stand with the paths of their files.
        ended: seconds since the epoch.
    """

    name: str
    arguments: str
    ended: float

    @property
    def paths(self) -> list[str]:
        """The paths among the arguments, of descriptors and by name; not the working directory's."""
        return re.findall(r'(?<!AT_FDCWD)["<](/[^">]*)', self.arguments)


class Trace:
    """What a process does from now on. Calls are told once it has ended."""

    def __init__(self, pid: int, names: Sequence[str], file: Path) -> None:
        self._file = file
        command = ["strace", "-f", "-ttt", "-T", "-y", "-s", "4096", "-e", f"trace={','.join(names)}"]
        self._tracer = subprocess.Popen(
            [*command, "-o", str(file), "-p", str(pid)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert self._tracer.stderr is not None, "asked for"
        # Also where it may not: then it says so and ends.
        said = self._tracer.stderr.readline()
        if " attached" not in said:
            self.end()
            pytest.skip(f"strace may not trace the daemon here: {said.strip()}")

    def end(self) -> list[SystemCall]:
        """Trace no longer; the calls in the order of their ends. Idempotent."""
        if self._tracer.returncode is None:
            self._tracer.terminate()
            self._tracer.communicate()
        return list(_calls(self._file.read_text() if self._file.exists() else ""))


def _calls(text: str) -> Iterator[SystemCall]:
    begun: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        thread, at, said = match["thread"], float(match["at"]), match["text"]
        if split := _SPLIT.match(said):
            begun[thread] = split["begun"]
            continue
        resumed = _RESUMED.match(said)
        if resumed:
            said = begun.pop(thread, "") + resumed["rest"]
        if (call := _CALL.match(said)) is not None and int(call["result"]) >= 0:
            # A line that stands alone has the time of the call's beginning.
            yield SystemCall(call["name"], call["arguments"], at if resumed else at + float(call["took"]))


@contextmanager
def traced(pid: int, names: Sequence[str], folder: Path) -> Iterator[Trace]:
    """Trace a process of this machine: ``with traced(pid, ["fsync"], tmp_path) as trace: ...; trace.end()``."""
    assert shutil.which("strace") is not None, "collected only where `strace` is offered"
    trace = Trace(pid, names, folder / "trace")
    try:
        yield trace
    finally:
        trace.end()
