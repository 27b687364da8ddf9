"""Playing a chapter to a daemon, and what comes out: a transcript that can be printed, stored and compared."""

import difflib
import queue
import re
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.acceptance.daemons import Daemon, Result
from tests.acceptance.images import Images
from tests.acceptance.normalise import Normaliser
from tests.acceptance.script import Chapter, Step

GOLDEN = Path(__file__).parent / "golden"
RECORDED_WITH = GOLDEN / "ctr-version"  # other releases of ctr print other columns
EVENT_SECONDS = 60.0
_ATTEMPT_SECONDS = 0.5
_BEACON = "acceptance-beacon"
_LONG = "x" * 5000


@dataclass(frozen=True)
class Entry:
    """A step as it is typed and its normalised outcome."""

    command: str
    outcome: str

    def __str__(self) -> str:
        return f"$ ctr {self.command}\n{self.outcome}"


@dataclass(frozen=True)
class Transcript:
    """The entries of one chapter against one daemon."""

    chapter: str
    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        return "\n".join(str(entry) for entry in self.entries)


def record(daemon: Daemon, chapter: Chapter, images: Images) -> Transcript:
    """Play ``chapter`` to a running daemon and write down what ``ctr`` prints."""
    places = {
        daemon.root: "<root>",
        daemon.state: "<state>",
        daemon.work: "<work>",
        daemon.base: "<base>",
        images.oci.parent: "<archives>",
    }
    normaliser = Normaliser(images.digests, places)
    if not chapter.watched:
        return Transcript(chapter.name, tuple(_play(daemon, chapter, images, normaliser)))
    with daemon.background("events") as process:
        assert process.stdout is not None, "background() gives pipes"
        watch = _Watch(daemon, process.stdout)
        watch.wait_for_subscription()
        entries = tuple(_play(daemon, chapter, images, normaliser))
        lines = watch.lines_until_now()
    return Transcript(chapter.name, (*entries, Entry("events", normaliser.text("".join(lines)))))


def differences(expected: Transcript, actual: Transcript, names: tuple[str, str]) -> str:
    """A readable diff, step by step, of only the steps that differ; empty if none does."""
    found = []
    for wanted, got in zip(expected.entries, actual.entries, strict=True):
        if wanted == got:
            continue
        left, right = wanted.outcome.splitlines(), got.outcome.splitlines()
        lines = difflib.unified_diff(left, right, *names, n=2, lineterm="")
        found.append(f"[{expected.chapter}] $ ctr {wanted.command}\n" + "\n".join(f"    {line}" for line in lines))
    return "\n".join(found)


def golden_path(chapter: str) -> Path:
    """The file with what the real daemon printed."""
    return GOLDEN / f"{chapter}.txt"


def read_golden(chapter: Chapter) -> Transcript:
    """The recorded transcript of a chapter.

    Raises:
        AssertionError: It was recorded from another script; record it again.
    """
    text = golden_path(chapter.name).read_text(encoding="utf-8")
    blocks = re.split(r"(?m)^\$ ctr ", text)[1:]
    # A blank line separates the entries; the last one has none.
    pairs = [block.partition("\n") for block in blocks]
    entries = [Entry(command, outcome) for command, _, outcome in pairs]
    entries = [
        Entry(entry.command, entry.outcome.removesuffix("\n") if number < len(entries) - 1 else entry.outcome)
        for number, entry in enumerate(entries)
    ]
    commands = [step.command for step in chapter.steps] + (["events"] if chapter.watched else [])
    assert [entry.command for entry in entries] == commands, (
        f"golden/{chapter.name}.txt does not belong to this script: run `python -m tests.acceptance --record`"
    )
    return Transcript(chapter.name, tuple(entries))


def _play(daemon: Daemon, chapter: Chapter, images: Images, normaliser: Normaliser) -> Iterator[Entry]:
    for step in chapter.steps:
        argv = [_fill(word, images) for word in shlex.split(step.command)]
        result = daemon.ctr(*argv, stdin=step.stdin, env={"CONTAINERD_NAMESPACE": chapter.name, **step.env})
        outcome = _outcome(step, result, normaliser)
        if step.show:
            outcome += f"# {step.show}\n" + normaliser.listing((daemon.work / step.show).read_bytes())
        yield Entry(step.command, outcome)


def _fill(word: str, images: Images) -> str:
    """Put values for the names in angle brackets."""
    values = {name: digest for digest, name in images.digests.items()}
    values |= {path.name: str(path) for path in (images.oci, images.docker, images.broken, images.cut)}
    values["long"] = _LONG
    return re.sub(r"<([\w.]+)>", lambda found: values[found[1]], word)


def _outcome(step: Step, result: Result, normaliser: Normaliser) -> str:
    """Output, then messages after ``! ``, then the exit status unless it is 0."""
    out = normaliser.output(result.stdout, step.out)
    err = normaliser.output(result.stderr.replace(_LONG.encode(), b"<long>"), step.err)
    messages = "".join(f"! {line}\n" for line in err.splitlines())
    status = f"[exit {result.code}]\n" if result.code else ""
    return out + messages + status


class _Watch:
    """Reads what ``ctr events`` prints, and knows which lines belong to the script.

    There is no sign that a subscription has begun but its first event. So a label of a namespace kept for this, the
    beacon, is set until that is seen; and once more at the end, since events arrive in order.
    """

    def __init__(self, daemon: Daemon, stream: IO[bytes]) -> None:
        self._daemon = daemon
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def wait_for_subscription(self) -> None:
        """Return once events are coming."""
        for attempt in range(round(EVENT_SECONDS / _ATTEMPT_SECONDS)):
            self._signal(f"try-{attempt}")
            try:
                self._lines.get(timeout=_ATTEMPT_SECONDS)
            except queue.Empty:
                continue
            return
        raise AssertionError(f"`ctr events` printed nothing within {EVENT_SECONDS:g} s")

    def lines_until_now(self) -> list[str]:
        """All lines of the script's own events up to this moment."""
        self._signal("end")
        lines: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=EVENT_SECONDS)
            except queue.Empty:
                raise AssertionError(f"events stopped coming; seen so far:\n{''.join(lines)}") from None
            if _BEACON not in line:
                lines.append(line)
            elif '"end"' in line:
                return lines

    def _signal(self, value: str) -> None:
        done = self._daemon.ctr("-n", _BEACON, "namespaces", "label", _BEACON, f"at={value}")
        assert done.code == 0, done.stderr.decode(errors="replace")

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines.put(line.decode(errors="replace"))
