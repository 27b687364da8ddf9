"""Which world is touched, and what is said when it is not built."""

from __future__ import annotations

import pytest

from refimpl.kernel import Registry
from refimpl.kernel.backends import BackendPolicy, choose
from tests.kernel.plugins import kernel, plugin


def backends(policy: BackendPolicy, *offered: str) -> str | None:
    return policy.pick("A.a", offered)


@pytest.mark.parametrize(
    "wanted,offered,picked",
    [
        ("auto", ("fake", "real"), "real"),
        ("auto", ("fake",), "fake"),
        ("auto", ("strange",), "strange"),
        ("auto", (), None),
        ("fake", ("fake", "real"), "fake"),
        ("real", ("fake",), None),
        ("strange", ("fake", "strange"), "strange"),
        ("real", ("",), ""),
    ],
)
def test_the_policy_picks(wanted: str, offered: tuple[str, ...], picked: str | None) -> None:
    assert backends(BackendPolicy(wanted), *offered) == picked


def test_a_single_plugin_can_be_chosen_otherwise() -> None:
    assert backends(BackendPolicy("real", {"A.a": "fake"}), "real", "fake") == "fake"


def test_a_fake_plugin_lives_in_the_fake_world_whatever_the_policy() -> None:
    assert BackendPolicy("real").pick("A.a", ("real", "fake"), own="fake") == "fake"


def test_one_registration_for_each_uri_in_the_order_of_the_first() -> None:
    registry = Registry([plugin("A.a", backend="real"), plugin("B.b"), plugin("A.a", backend="fake")])
    chosen = choose(registry, BackendPolicy("fake"))
    assert [(registration.uri, registration.backend) for registration in chosen] == [("A.a", "fake"), ("B.b", "")]


def test_a_plugin_without_the_backend_asked_for_is_listed_and_skips_with_the_reason() -> None:
    listed = kernel(plugin("A.a", backend="fake"), backends="real").boot()["A.a"]
    assert listed.status == "skip"
    assert str(listed.error) == "there is no real backend of A.a (there is: fake): skip plugin"
