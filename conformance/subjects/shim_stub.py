"""The stub shim as a subject: whole, for the suite's own tests, and with a mutant planted."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from conformance import patience
from conformance.mutants.engine import Mutant
from conformance.recorder import Recorder
from conformance.shim.harness import Harness
from conformance.subjects.shim import ShimSubject

STUB = Path(__file__).parent.parent / "shim" / "stub.py"

NAME = "containerd-shim-stub-v1"

CALL_SECONDS = patience.SECONDS
"""Seconds after which a call to a broken stub counts as hanging: it has no container to make, and answers at once."""


class StubSubject(ShimSubject):
    """The stub, in a file that can be run.

    Args:
        mutant: what is broken in it; None for nothing.
        whole_area: whether a broken one is judged by all checks of shims, not only by those of the mutant's clause.
    """

    def __init__(self, spec: str, mutant: Mutant | None = None, *, whole_area: bool = False) -> None:
        self._folder: Path | None = None
        super().__init__(spec, Path(NAME))
        self.planted = mutant
        # It does all that the second runc shim promises, but for what takes an OCI runtime.
        self.types = frozenset({NAME, "containerd-shim-runc-v2"})
        if mutant is not None:
            self.ephemeral = True
            self.only_clauses = None if whole_area else frozenset({mutant.clause})
            self.one_failure_settles = not whole_area

    def open(self) -> None:
        """Write the file.

        Raises:
            SubjectError: see ``ShimSubject.open``.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="cfb-"))
        self._folder.chmod(0o755)
        self.binary = self._folder / NAME
        own = ["--mutant", self.planted.at, self.planted.id] if self.planted is not None else []
        words = shlex.join([sys.executable, "-P", str(STUB), *own])
        self.binary.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        self.binary.chmod(0o755)
        super().open()

    def furnish(self) -> None:
        """The stub's processes see this machine's own files."""

    def harness(self, recorder: Recorder | None = None) -> Harness:
        """As for any shim, with less patience for a broken one."""
        if self.planted is None:
            return super().harness(recorder)
        return Harness(self.binary, None, recorder, call_seconds=CALL_SECONDS)

    def probe(self) -> None:
        """A broken one need not come to life: the checks are to say so."""
        if self.planted is None:
            super().probe()

    def close(self) -> None:
        """Remove the file."""
        super().close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def whole() -> StubSubject:
    """The stub with nothing broken, for ``python:conformance.subjects.shim_stub:whole``."""
    return StubSubject(NAME)
