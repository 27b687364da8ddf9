"""How long a check waits for what has to come, and a subject for an answer.

A machine under load may stand still for seconds: the time is what it can take at worst, and costs nothing where all is
well. Of a mutant many checks wait for what never comes, and whoever is late there is found out as it should be: a run
of mutants sets a shorter time for its workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "REFIMPL_CONFORM_PATIENCE"

_WITH_MUTANTS = "5"

SECONDS = float(os.environ.get(_VARIABLE, "20"))
"""Seconds that one thing may take to come about."""


@contextmanager
def short() -> Iterator[None]:
    """Have the processes that begin in this block wait less; this one goes on as it is."""
    before = os.environ.get(_VARIABLE)
    os.environ.setdefault(_VARIABLE, _WITH_MUTANTS)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
