"""The mutant engine: one thing is broken, the rest is as it was, and the verdict tells who noticed."""

from __future__ import annotations

import pytest

from conformance.mutants import check, shapes
from conformance.mutants.check import Verdict
from conformance.mutants.engine import Mutant, change, find, mutants_of
from conformance.mutants.subject import MutantSubject
from conformance.results import Outcome, Result
from conformance.run import Run, Wish
from conformance.subjects.base import SubjectError, opened
from conformance.subjects.fake import FakeSubject
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, NotFound, Unavailable
from refimpl.contract.images import Image
from refimpl.contract.types import Descriptor

CTX = CallContext(namespace="n")
IMAGE = Image("a", Descriptor("x", "sha256:" + "0" * 64, 1))


class Counter:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def twice(self) -> int:
        self.add()
        return self.add()


def test_a_replacement_gets_the_original_and_meets_calls_from_within() -> None:
    counter = change(Counter(), add=lambda original, number=1: original(number * 10))
    assert counter.twice() == 20
    assert Counter().twice() == 2, "only the one object is broken"


def test_a_replacement_for_what_does_not_exist_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"Counter.subtract"):
        change(Counter(), subtract=shapes.does_nothing())


@pytest.mark.parametrize(
    "shape, answer",
    [
        (shapes.does_nothing(7), 7),
        (shapes.twice(), 2),
        (shapes.answers(lambda n: -n), -1),
        (shapes.argument(0, lambda n: n + 4), 1),
        (shapes.drops("number"), 1),
    ],
)
def test_a_shape_is_the_mistake_it_says(shape: shapes.Method, answer: int) -> None:
    assert change(Counter(), add=shape).add() == answer


def test_shapes_of_errors() -> None:
    def fail() -> None:
        raise NotFound("x")

    assert shapes.silent(NotFound, answer=3)(fail) == 3
    with pytest.raises(NotFound):
        shapes.silent(AlreadyExists)(fail)
    with pytest.raises(Unavailable):
        shapes.other_kind(Unavailable)(fail)
    with pytest.raises(Unavailable, match="broken"):
        shapes.always_fails(Unavailable)(fail)
    assert shapes.each(lambda n: n + 1, keep=lambda n: n > 1)(lambda: [1, 2]) == [3]
    assert list(shapes.each(lambda n: n)(lambda: iter([1]))) == [1]
    assert shapes.answers_with(name=str.upper)(lambda: IMAGE).name == "A"


def test_a_mutant_is_planted_where_it_says_and_nowhere_else() -> None:
    mutant = Mutant("IMG-001", "x", "x", "metadata.images", {"get": shapes.answers_with(name="other")})
    with opened(FakeSubject("broken", extra=[mutant.plant()])) as broken, opened(FakeSubject()) as whole:
        for subject, name in ((broken, "other"), (whole, "a")):
            assert subject.images is not None
            subject.images.create(CTX, IMAGE)
            assert subject.images.get(CTX, "a").name == name


def test_a_mutant_can_be_planted_in_every_snapshotter_at_once() -> None:
    mutant = Mutant("SNP-001", "x", "x", "metadata.snapshots", {"stat": shapes.always_fails(Unavailable)})
    with opened(FakeSubject("broken", extra=[mutant.plant()])) as broken:
        for id in broken.snapshotters:
            with pytest.raises(Unavailable):
                broken.snapshotter(id).stat(CTX, "x")


def test_an_unknown_mutant_is_refused() -> None:
    with pytest.raises(SubjectError, match="there is no mutant CNT-001/nothing"):
        MutantSubject("mutant:CNT-001/nothing")
    with pytest.raises(KeyError):
        find("XXX-001/x")


def test_only_a_verdict_without_survivors_is_clean() -> None:
    assert Verdict(killed=["a"]).clean
    for dirty in (
        Verdict(survived=["a"]),
        Verdict(missing=["a"]),
        Verdict(invalid={"a": "b"}),
        Verdict(killed_by_others={"a": ["b"]}),
    ):
        assert not dirty.clean
    assert Verdict(killed=["a", "b"]).summary() == {
        "killed": 2,
        "survived": 0,
        "killed_by_others": 0,
        "invalid": 0,
        "missing": 0,
    }


@pytest.mark.parametrize(
    "second,third,count",
    [
        (Outcome.FAILED, None, "killed"),
        (Outcome.ERROR, None, "invalid"),
        (Outcome.PASSED, Outcome.PASSED, "survived"),
        (Outcome.PASSED, Outcome.FAILED, "killed"),
    ],
)
def test_who_could_not_be_judged_has_a_second_chance_and_no_third(
    monkeypatch: pytest.MonkeyPatch, second: Outcome, third: Outcome | None, count: str
) -> None:
    outcomes = [Outcome.ERROR, second, *([third] if third else [])]

    def run(wish: Wish, _reporter: object = None) -> Run:
        done = Run(wish)
        outcome = outcomes.pop(0)
        for subject in wish.subjects:
            done.tally.add(Result(subject, "namespaces::test_it", ["NSP-011"], outcome, message="too late"))
        return done

    monkeypatch.setattr(check, "run", run)
    mutants = [each for each in mutants_of(["namespaces"]).values() if each.clause == "NSP-011"]

    verdict = check.judge(["namespaces"], clauses=["NSP-011"])

    assert outcomes == []
    assert {name: found for name, found in verdict.summary().items() if found} == {count: len(mutants)}
