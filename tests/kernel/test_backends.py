"""Which world is touched, and what is said when it is not built."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.kernel import RegistrationError, Registry, assembled
from refimpl.kernel.backends import BackendPolicy, check_words, choose
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


@pytest.mark.parametrize("policy", [BackendPolicy("strnge"), BackendPolicy("auto", {"A.a": "strnge"})])
def test_a_backend_that_no_plugin_has_is_refused_with_those_that_there_are(policy: BackendPolicy) -> None:
    registry = Registry([plugin("A.a", backend="strange"), plugin("B.b")])
    with pytest.raises(RegistrationError, match=r'"strnge" \(there are: fake, real, strange, and auto\)'):
        check_words(registry, policy)
    check_words(registry, BackendPolicy("strange", {"B.b": "auto", "A.a": "real"}))


def test_a_word_that_is_no_backend_assembles_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RegistrationError, match="bogus"),
        assembled(root=tmp_path / "root", state=tmp_path / "state", backends="bogus"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
