"""Randomised comparison: equal subjects agree, containerd agrees too, and a planted difference is found and short."""

from __future__ import annotations

import pytest

from conformance.catalogue import load
from conformance.machines.freedoms import FREEDOMS
from conformance.machines.pair import opened_pair
from conformance.machines.play import MACHINES, Played, play, told

FEW = 30
"""Examples; under a fixed seed they are the same ones in every run."""


@pytest.mark.parametrize("machine", MACHINES)
def test_two_fakes_do_not_differ(machine: str) -> None:
    with opened_pair("fake", "fake") as pair:
        done = play(machine, pair, examples=FEW)

    assert done.difference is None, told(done)
    assert done.examples >= FEW
    assert done.steps > 10 * FEW, "an example is a life, not a call"


@pytest.mark.root
@pytest.mark.debian("containerd")
@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_fakes_do_not_differ_from_containerd(machine: str) -> None:
    with opened_pair("fake", "daemon:containerd") as pair:
        done = play(machine, pair, examples=FEW // 2)

    assert done.difference is None, told(done)


@pytest.mark.parametrize(
    "machine, mutant, seen",
    [
        ("content", "CNT-027/a-second-commit-relabels-the-record", "content.walk"),
        ("content", "CNT-046/aborting-nothing-is-success", "content.abort"),
        ("content", "CNT-056/empty-labels-are-kept", "content."),
        ("snapshots", "SNP-012/commit-copies-and-leaves-the-active-key-behind", "snapshotter."),
        ("snapshots", "SNP-061/labels-of-the-active-snapshot-are-merged-in", "snapshotter."),
        ("leases", "SNP-094/a-container-does-not-keep-its-snapshot", ""),
        ("leases", "LEA-028/no-lease-expires", "leases.list"),
        ("leases", "CNT-091/every-label-that-begins-like-a-reference-is-one", "content.walk"),
    ],
)
def test_a_planted_difference_is_found_and_told_in_a_few_steps(machine: str, mutant: str, seen: str) -> None:
    with opened_pair("fake", f"mutant:{mutant}") as pair:
        done = play(machine, pair, examples=300)

    found = done.difference
    assert found is not None, f"{done.examples} examples did not find it"
    assert found.operation.startswith(seen)
    # What a machine itself lists when it compares everything is not counted.
    operations = [line for line in found.steps if ".walk(" not in line and ".list" not in line]
    assert len(operations) <= 20, told(done)
    assert f"mutant:{mutant}" in told(done), "whose answer is whose is told"


def test_the_same_seed_draws_the_same_operations() -> None:
    def steps() -> list[str]:
        with opened_pair("fake", "mutant:CNT-046/aborting-nothing-is-success") as pair:
            found = play("content", pair, examples=300, start=7).difference
        assert found is not None
        return found.steps

    assert steps() == steps()


def test_the_time_ends_a_run_between_two_examples() -> None:
    with opened_pair("fake", "fake") as pair:
        done = play("content", pair, seconds=0.2)

    # Without an end there would be none at all; an example takes what it takes on a busy machine.
    assert 0 < done.seconds < 120.0


def test_a_run_tells_how_far_it_is() -> None:
    seen: list[int] = []

    def notice(played: Played) -> None:
        seen.append(played.steps)

    with opened_pair("fake", "fake") as pair:
        done = play("content", pair, examples=2, notice=notice)

    assert seen == sorted(seen)
    assert seen[-1] == done.steps


def test_nothing_of_an_example_is_left_behind() -> None:
    with opened_pair("fake", "fake") as pair:
        play("leases", pair, examples=5)
        for side in pair.sides:
            assert side.subject.namespaces is not None
            left = [each.name for each in side.subject.namespaces.list(side.named["ctx"])]
            assert not [name for name in left if name.startswith("machine-")]


def test_every_freedom_is_granted_by_a_clause() -> None:
    for freedom in FREEDOMS:
        assert freedom.clause in load(), f"{freedom.why}: no clause {freedom.clause}"
