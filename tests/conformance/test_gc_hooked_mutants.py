"""Mutants that are hooks of their own: mistakes between plugins, and in how the kernel reads settings."""

from __future__ import annotations

import pytest

from conformance.mutants.engine import find
from conformance.mutants.subject import MutantSubject
from conformance.subjects.base import SubjectError, opened
from conformance.subjects.fake import FakeSubject

BAD = 'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\nschedule_delay = "bogus"\n'
LENIENT = "GC-003/a-setting-that-cannot-be-read-is-the-default"
TELLS = "LEA-038/creations-and-deletions-are-told"


def test_a_hooked_mutant_gets_the_kernel_before_it_boots() -> None:
    with opened(FakeSubject()) as subject, pytest.raises(SubjectError, match="bogus"), subject.spawn(BAD):
        pass
    with opened(MutantSubject(f"mutant:{LENIENT}")) as subject, subject.spawn(BAD) as instance:
        assert instance.content is not None


def test_a_hooked_mutant_is_a_new_object_for_each_subject() -> None:
    mutant = find(TELLS)
    assert mutant.plant() is not mutant.plant()
