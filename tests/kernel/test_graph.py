"""The order of initialisation (PLG-007 to PLG-011)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.kernel import Registration, RegistrationError
from refimpl.kernel.graph import initialisation_order
from tests.kernel.plugins import plugin, uris

MIXED = [
    plugin("grpc.z", "svc"),
    plugin("svc.b", "meta", "diff"),
    plugin("svc.a", "meta"),
    plugin("diff.d", "meta"),
    plugin("meta.m", "cont", "snap"),
    plugin("snap.s2"),
    plugin("snap.s1"),
    plugin("cont.c"),
    plugin("all.w", "*"),
    plugin("late.l"),
]


def order(*registrations: Registration) -> str:
    return " ".join(uris(initialisation_order(registrations)))


def test_requirements_come_first_and_otherwise_the_order_of_registration_counts() -> None:
    assert order(*MIXED) == "cont.c snap.s2 snap.s1 meta.m diff.d svc.b svc.a grpc.z late.l all.w"


def test_without_a_member_the_others_keep_to_the_rule() -> None:
    left = [registration for registration in MIXED if registration.uri != "meta.m"]
    assert order(*left) == "diff.d svc.b svc.a grpc.z snap.s2 snap.s1 cont.c late.l all.w"


def test_a_wildcard_comes_after_what_is_registered_later() -> None:
    assert order(plugin("all.w", "*"), plugin("late.l")) == "late.l all.w"


def test_a_loop_is_told_with_its_whole_chain() -> None:
    with pytest.raises(RegistrationError, match=r"A\.a -> B\.b -> C\.c -> A\.a.*dependency loop detected"):
        order(plugin("X.x", "A"), plugin("A.a", "B"), plugin("B.b", "C"), plugin("C.c", "A"))


def test_two_wildcards_wait_for_each_other() -> None:
    with pytest.raises(RegistrationError, match="dependency loop"):
        order(plugin("all.v", "*"), plugin("all.w", "*"))


def test_requiring_ones_own_type_means_its_other_plugins() -> None:
    assert order(plugin("T.a", "T"), plugin("T.b")) == "T.b T.a"


def test_a_requirement_that_nobody_satisfies_only_orders() -> None:
    assert order(plugin("A.a", "nothing")) == "A.a"


@st.composite
def acyclic(draw: st.DrawFn) -> list[Registration]:
    """Plugins of types t0, t1, ... that require only types with a smaller number, in any order."""
    count = draw(st.integers(1, 6))
    made = []
    for number in range(count):
        for id_ in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
            types = [f"t{other}" for other in draw(st.lists(st.integers(0, number), max_size=3)) if other != number]
            made.append(plugin(f"t{number}.{id_}", *types))
    return draw(st.permutations(made))


@given(acyclic())
def test_everything_is_placed_once_and_after_all_that_it_requires(registrations: list[Registration]) -> None:
    placed = initialisation_order(registrations)
    assert sorted(uris(placed)) == sorted(uris(registrations))
    for position, registration in enumerate(placed):
        needed = [other for other in registrations if other.type in registration.requires]
        assert all(other in placed[:position] for other in needed)
