"""``mutant:ID``: the fakes, or the stub shim, with one mutant planted.

It is judged by the checks of its clause or, with ``@area``, of its whole area.
"""

from __future__ import annotations

from conformance.mutants.engine import find
from conformance.subjects.base import Subject, SubjectError
from conformance.subjects.fake import FakeSubject
from conformance.subjects.shim_stub import StubSubject


class MutantSubject(FakeSubject):
    """A fake that is broken on purpose."""

    # Hundreds of them in one run: each lives only while one check looks at it.
    ephemeral = True

    def __init__(self, spec: str) -> None:
        id, _, scope = spec.removeprefix("mutant:").partition("@")
        try:
            mutant = find(id)
        except KeyError:
            raise SubjectError(f"there is no mutant {id}") from None
        super().__init__(spec, extra=[mutant.plant()])
        # Some clauses bind the client: a suite that brings one of its own plants their mutants there.
        self.planted = mutant
        if scope == "area":
            self.only_areas = frozenset({mutant.area})
        else:
            self.only_clauses = frozenset({mutant.clause})
            self.one_failure_settles = True


def planted(spec: str) -> Subject:
    """The subject for ``mutant:ID[@area]``: whatever that mutant breaks.

    Raises:
        SubjectError: there is no such mutant.
    """
    id, _, scope = spec.removeprefix("mutant:").partition("@")
    try:
        mutant = find(id)
    except KeyError:
        raise SubjectError(f"there is no mutant {id}") from None
    if mutant.at.startswith("shim."):
        return StubSubject(spec, mutant, whole_area=scope == "area")
    return MutantSubject(spec)
