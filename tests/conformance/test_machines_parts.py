"""The parts of the randomised comparison: what is compared, what may differ, how a sequence is made shorter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from conformance.machines.cli import random_
from conformance.machines.freedoms import explained
from conformance.machines.pair import CTX, Difference, Outcome, Pair, Term, opened_pair
from conformance.machines.play import play
from conformance.machines.shorten import Done, again, recorded, shorten
from conformance.machines.values import comparable
from conformance.subjects.base import SubjectError
from refimpl.contract import content, snapshots
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.mounts import Mount


def test_times_are_not_compared() -> None:
    early, late = (content.Info("sha256:00", 3, time, time, {"k": "v"}) for time in (1, 2))

    assert comparable(early) == comparable(late)
    assert comparable(early) != comparable(content.Info("sha256:00", 3, 1, 1, {"k": "w"}))


def test_paths_are_not_compared_and_layers_are_counted() -> None:
    def overlay(*below: str) -> Mount:
        top = (f"upperdir={below[0]}/up", f"workdir={below[0]}/work")
        return Mount("overlay", "overlay", options=("index=off", *top, "lowerdir=" + ":".join(below)))

    assert comparable([overlay("/a", "/b")]) == comparable([overlay("/c", "/d")])
    assert comparable([overlay("/a")]) != comparable([overlay("/a", "/b")])


def test_negative_usage_is_not_usage() -> None:
    assert comparable(snapshots.Usage(4096, 1)) == comparable(snapshots.Usage(0, 1))
    assert comparable(snapshots.Usage(-1, 1)) != comparable(snapshots.Usage(0, 1))


def test_what_nobody_can_compare_is_an_error() -> None:
    with pytest.raises(TypeError, match="object"):
        comparable(object())


def test_a_freedom_explains_its_own_operation_in_either_order_and_no_other() -> None:
    left, right = Outcome("AlreadyExists"), Outcome("NotFound")

    for pair in ((left, right), (right, left)):
        freedom = explained("snapshotter.commit", *pair)
        assert freedom is not None
        assert freedom.clause == "SNP-019"
    assert explained("snapshotter.prepare", left, right) is None
    assert explained("snapshotter.commit", left, Outcome()) is None, "one that succeeds is no freedom of errors"


def test_a_freedom_is_written_into_the_steps() -> None:
    with opened_pair("fake", "fake") as pair:
        pair.begin()

        def operation(side: Any) -> None:
            raise (NotFound if side is pair.sides[0] else AlreadyExists)("n")

        pair.both("snapshotter.commit", "snapshotter.commit(ctx, 'n', 'k')", operation)
        pair.end()

    assert "SNP-019" in pair.lines[-1]
    assert pair.used["SNP-019"] == 1


def test_a_difference_shows_the_steps_and_both_outcomes() -> None:
    with opened_pair("fake", "fake") as pair:
        pair.begin()
        pair.call("content", "list_statuses", CTX)
        pair.sides[1].named["ctx"] = pair.sides[1].named["ctx"].with_namespace("no name")
        with pytest.raises(Difference) as caught:
            pair.call("content", "status", CTX, "r")
        pair.end()

    assert str(caught.value).splitlines()[:2] == ["content.list_statuses(ctx)", "content.status(ctx, 'r')"]
    assert {label: outcome.kind for label, outcome in caught.value.outcomes.items()} == {
        "fake (1)": "NotFound",
        "fake (2)": "InvalidArgument",
    }


def test_a_crash_is_a_difference_even_where_both_crash() -> None:
    with opened_pair("fake", "fake") as pair:
        pair.begin()
        with pytest.raises(Difference, match="ZeroDivisionError"):
            pair.both("x", "x()", lambda _: 1 // 0)
        pair.end()


def test_a_subject_that_cannot_be_compared_is_told() -> None:
    with (
        pytest.raises(SubjectError, match="no socket"),
        opened_pair("fake", "unix:///nowhere/containerd.sock"),
    ):
        pytest.fail("there is nothing to compare")


class Handle:
    """What a rule hands to later ones."""

    handle = True


class Counting:
    """A machine without subjects: it fails once two numbers came, in this order, on one handle."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.seen: list[tuple[Handle, int]] = []

    @recorded
    def make(self) -> Handle:
        """A new handle."""
        return Handle()

    @recorded
    def say(self, on: Handle, number: int, labels: Any) -> None:
        """A number on a handle."""
        self.seen.append((on, number))

    @property
    def failed(self) -> bool:
        """3 and then 5 on one handle."""
        return any(
            on is other and (number, later) == (3, 5)
            for at, (on, number) in enumerate(self.seen)
            for other, later in self.seen[at:]
        )


def fails(sequence: Sequence[Done]) -> bool:
    machine = Counting()
    again(machine, sequence)
    return machine.failed


def test_a_sequence_is_shortened_to_what_is_needed() -> None:
    machine = Counting()
    handles = [machine.make() for _ in range(3)]
    for number in range(8):
        for handle in handles:
            machine.say(on=handle, number=number, labels={"k": "v"})
    assert machine.failed

    short = shorten(machine.done, fails)

    assert [done.drawn.get("number") for done in short] == [None, 3, 5]
    assert [done.drawn["labels"] for done in short[1:]] == [{}, {}], "labels that do not matter go, too"


def test_what_was_given_to_a_rule_goes_with_the_rule_that_made_it() -> None:
    machine = Counting()
    handle = machine.make()
    machine.say(on=handle, number=3, labels={})

    alone = Counting()
    again(alone, machine.done[1:])

    assert alone.seen == []


def test_what_sets_up_an_example_stays() -> None:
    setting = Done(lambda _machine, id: None, {"id": "native"}, pinned=True)
    rest = [Done(lambda _machine: None) for _ in range(4)]

    assert shorten([setting, *rest], lambda _: True) == [setting]


def test_terms_are_written_as_they_are_read() -> None:
    assert repr([Term("digest('a')", lambda _: "sha256:00")]) == "[digest('a')]"


app = typer.Typer()
app.command()(random_)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_json_and_nothing_else() -> None:
    status, out, err = run("content", "--subject", "fake", "--subject", "fake", "--seconds", "1", "--json")

    assert status == 0, err
    answer = json.loads(out)
    assert answer["subjects"] == ["fake", "fake"]
    assert answer["machines"][0]["difference"] is None
    assert "steps/s" in err, "progress goes to standard error"


def test_the_command_fails_where_subjects_differ() -> None:
    mutant = "mutant:CNT-046/aborting-nothing-is-success"
    status, out, err = run("content", "--subject", "fake", "--subject", mutant, "--seconds", "200")

    assert status == 1, err
    assert "content.abort(" in out
    assert "(seed 0)" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tasks"], "there is no machine 'tasks'"),
        (["content", "--subject", "fake"], "two subjects"),
        (["content", "--subject", "fake", "--subject", "unix:///nowhere"], "no socket"),
    ],
)
def test_wrong_usage_has_a_sentence_and_status_2(arguments: list[str], message: str) -> None:
    status, _, err = run(*arguments)

    assert status == 2
    assert message in err


def test_the_leases_machine_refuses_a_subject_whose_collector_is_not_its_own() -> None:
    with opened_pair("fake", "fake") as pair:
        loud = Pair(*pair.sides)
        loud.sides[1].subject.capabilities = frozenset()
        with pytest.raises(ValueError, match="needs config"):
            play("leases", loud, examples=1)
