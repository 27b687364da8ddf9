"""What can be announced and what is refused at once (PLG-001 to PLG-009)."""

from __future__ import annotations

import pytest

from refimpl.kernel import Registration, RegistrationError, Registry, SkipPlugin
from tests.kernel.plugins import plugin, uris


def test_the_uri_is_the_type_a_dot_and_the_id() -> None:
    assert plugin("io.containerd.content.v1.content").uri == "io.containerd.content.v1.content"


def test_a_registration_without_a_type_is_refused() -> None:
    registry = Registry([plugin("a.b")])
    with pytest.raises(RegistrationError, match="plugin: no type"):
        registry.add(Registration("", "a", lambda ic: ic))
    assert uris(list(registry)) == ["a.b"], "a refused call changes nothing"


def test_a_registration_without_an_id_is_refused() -> None:
    with pytest.raises(RegistrationError, match="plugin: no id"):
        Registry([Registration("io.x.y.v1", "", lambda ic: ic)])


def test_a_uri_that_is_taken_is_refused_and_the_first_stays() -> None:
    first = plugin("io.a.b.v1.x")
    registry = Registry([first])
    with pytest.raises(RegistrationError, match=r"io\.a\.b\.v1\.x: plugin: id already registered"):
        registry.add(plugin("io.a.b.v1.x"))
    assert list(registry) == [first]


def test_the_same_text_made_of_another_type_and_id_is_taken_too() -> None:
    registry = Registry([Registration("io.a.b.v1", "x", lambda ic: ic, backend="real")])
    with pytest.raises(RegistrationError, match="id already registered"):
        registry.add(Registration("io.a.b", "v1.x", lambda ic: ic, backend="fake"))


@pytest.mark.parametrize("first,second", [("", "real"), ("real", ""), ("real", "real")])
def test_only_twins_with_backends_of_their_own_share_a_uri(first: str, second: str) -> None:
    registry = Registry([plugin("a.b", backend=first)])
    with pytest.raises(RegistrationError, match="id already registered"):
        registry.add(plugin("a.b", backend=second))


def test_a_real_and_a_fake_twin_share_a_uri() -> None:
    registry = Registry([plugin("a.b", backend="real"), plugin("c.d"), plugin("a.b", backend="fake")])
    assert registry.uris() == ["a.b", "c.d"]
    assert set(registry.candidates("a.b")) == {"real", "fake"}


@pytest.mark.parametrize("requires", [("*", "io.a.b.v1"), ("io.a.b.v1", "*"), ("*", "*")])
def test_the_wildcard_stands_alone(requires: tuple[str, ...]) -> None:
    with pytest.raises(RegistrationError, match="invalid requires"):
        Registry([plugin("all.w", *requires)])


def test_the_wildcard_alone_is_accepted() -> None:
    assert uris(list(Registry([plugin("all.w", "*")]))) == ["all.w"]


def test_a_skip_says_so_in_its_text() -> None:
    assert str(SkipPlugin("no modprobe here")) == "no modprobe here: skip plugin"
