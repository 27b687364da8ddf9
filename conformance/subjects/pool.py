"""The pool: subjects of one process, opened at first use, closed at the end, given up when they are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.subjects.base import Identity, Subject, SubjectError

STRIKES = 3
"""Checks in a row that may run into their time limit before a subject is given up."""


@dataclass
class _Entry:
    subject: Subject
    error: str = ""
    opened: bool = False
    strikes: int = 0
    settled: bool = False


class SubjectPool:
    """One entry for each subject of a run. A subject that failed to open, or died, costs its checks nothing more."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def add(self, subject: Subject) -> None:
        """Make a subject known by its name."""
        self._entries.setdefault(subject.name, _Entry(subject))

    def peek(self, name: str) -> Subject:
        """The subject, opened if it was not; an error is kept for ``get`` (collection must go on)."""
        entry = self._entries[name]
        if not entry.opened:
            entry.opened = True
            try:
                entry.subject.open()
            except SubjectError as error:
                entry.error = str(error)
            except Exception as error:  # noqa: BLE001  # a stranger's plugin object may throw anything while it is made
                entry.error = f"{type(error).__name__}: {error}"
        return entry.subject

    def get(self, name: str) -> Subject:
        """The subject, ready to be judged.

        Raises:
            SubjectError: it could not be opened, or was given up.
        """
        subject = self.peek(name)
        if error := self._entries[name].error:
            raise SubjectError(error)
        return subject

    def snapshotters(self, name: str) -> Sequence[str]:
        """The snapshotters to judge; a subject that knows them beforehand need not be opened to say so."""
        return self._entries[name].subject.snapshotters or self.peek(name).snapshotters

    def done(self, name: str) -> None:
        """After a check: close what lives only as long as one."""
        entry = self._entries[name]
        if entry.opened and entry.subject.ephemeral:
            entry.subject.close()
            entry.opened = False

    def error(self, name: str) -> str:
        """Why the subject cannot be judged; empty if it can."""
        return self._entries[name].error

    def settled(self, name: str) -> bool:
        """Whether a check failed of a subject of which nobody wants to know more than that."""
        return self._entries[name].settled

    def saw_failure(self, name: str, *, timed_out: bool, judged: bool = True) -> None:
        """After a failed check: find out whether it is any use to go on.

        Args:
            judged: whether the check itself failed, and not what it stands on.
        """
        entry = self._entries[name]
        entry.settled |= judged and entry.subject.one_failure_settles
        entry.strikes = entry.strikes + 1 if timed_out else 0
        if not entry.error:
            entry.error = entry.subject.alive()
        if not entry.error and entry.strikes >= STRIKES:
            entry.error = f"given up: {STRIKES} checks in a row ran into their time limit"

    def saw_success(self, name: str) -> None:
        """After a passed check."""
        self._entries[name].strikes = 0

    def identities(self) -> dict[str, Identity]:
        """Whose code answered, for each subject that was judged."""
        return {name: e.subject.identity() for name, e in self._entries.items() if e.opened and not e.error}

    def close(self) -> None:
        """Close all subjects."""
        for entry in self._entries.values():
            if entry.opened:
                entry.subject.close()
