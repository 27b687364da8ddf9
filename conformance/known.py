"""Known failures: differences that somebody has looked at and written down.

They are kept in a TOML file::

    [[known]]
    clause = "SNP-036"
    subject = "snapshotter+unix:///run/my.sock"  # a pattern; "*" for every subject
    reason = "views are writable until the next release"
    reference = "https://example.com/issues/12"

A known failure is reported apart. An entry whose clause passes, or which matches nothing that ran, is an error: the
file must not outlive what it describes.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.catalogue import load
from conformance.results import Outcome, Result

_FIELDS = {"clause", "subject", "reason", "reference"}


class KnownFailuresError(ValueError):
    """A file that does not hold what it must."""


@dataclass(frozen=True, slots=True)
class Known:
    """One entry."""

    clause: str
    subject: str
    reason: str
    reference: str

    def matches(self, result: Result) -> bool:
        """Whether a result is about this entry's clause and subject."""
        return self.clause in result.clauses and fnmatch.fnmatchcase(result.subject, self.subject)

    def __str__(self) -> str:
        return f"{self.clause} on {self.subject}"


def read(path: Path) -> list[Known]:
    """The entries of a file.

    Raises:
        KnownFailuresError: it cannot be read, is not TOML, an entry lacks a field or has a strange one, or names no
            clause.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise KnownFailuresError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KnownFailuresError(f"{path}: {error}") from error
    if set(table) - {"known"}:
        raise KnownFailuresError(
            f"{path}: expected [[known]] tables only, found {', '.join(sorted(set(table) - {'known'}))}"
        )
    found = []
    for number, entry in enumerate(table.get("known", []), 1):
        if set(entry) != _FIELDS:
            raise KnownFailuresError(f"{path}: entry {number} must have {', '.join(sorted(_FIELDS))}, and nothing else")
        if entry["clause"] not in load():
            raise KnownFailuresError(f"{path}: entry {number}: there is no clause {entry['clause']}")
        found.append(Known(**entry))
    return found


def apply(known: Sequence[Known], result: Result) -> Result:
    """A failure that an entry describes becomes a known one."""
    if result.outcome is not Outcome.FAILED:
        return result
    for entry in known:
        if entry.matches(result):
            return replace(result, outcome=Outcome.KNOWN, reason=f"{entry.reason} ({entry.reference})")
    return result


def stale(known: Sequence[Known], results: Sequence[Result]) -> list[str]:
    """What is wrong with the file, judged by the results after ``apply``."""
    complaints = []
    for entry in known:
        outcomes = {result.outcome for result in results if entry.matches(result)}
        if Outcome.KNOWN in outcomes:
            continue
        if Outcome.PASSED in outcomes:
            complaints.append(f"{entry} passes: remove the entry")
        else:
            complaints.append(f"{entry} matches nothing that ran")
    return complaints
