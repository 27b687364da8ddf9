"""How long a check waits for what has to come, and a subject for an answer.

A machine under load may stand still for seconds: the time is what it can take at worst, and costs nothing where all is
well. Of a mutant many checks wait for what never comes, and whoever is late there is found out as it should be: a run
of mutants sets a shorter time for its workers.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "REFIMPL_CONFORM_PATIENCE"
"""Of the environment: another number of seconds, for machines that are slower still, or to see failures sooner."""

_WITH_MUTANTS = "5"


def _read() -> float:
    text = os.environ.get(VARIABLE, "20")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        # Nothing is imported without it: there is nobody yet who could make a line of an exception.
        sys.stderr.write(f"refimpl: {VARIABLE} takes a number of seconds, not {text!r}\n")
        sys.exit(2)
    return seconds


SECONDS = _read()
"""Seconds that one thing may take to come about."""


@contextmanager
def short() -> Iterator[None]:
    """Have the processes that begin in this block wait less, unless the user has said how long; this one goes on."""
    if VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = _WITH_MUTANTS
    try:
        yield
    finally:
        del os.environ[VARIABLE]
