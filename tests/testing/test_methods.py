"""Names of methods mean one thing, or are refused with a hint."""

from __future__ import annotations

import pytest

from refimpl.testing.methods import Methods, UnknownMethod

SERVED = (
    "containerd.services.images.v1.Images/Get",
    "containerd.services.images.v1.Images/List",
    "containerd.services.content.v1.Content/List",
    "other.Images/Get",
)


@pytest.fixture
def methods() -> Methods:
    made = Methods()
    made.know(SERVED)
    return made


@pytest.mark.parametrize("name", ["Images/List", "v1.Images/List", SERVED[1], f"/{SERVED[1]}"])
def test_a_method_is_known_by_its_full_name_and_by_its_end(methods: Methods, name: str) -> None:
    assert methods.find(name) == {SERVED[1]}


def test_wildcards_mean_all_that_fit(methods: Methods) -> None:
    assert methods.find("v1.Images/*") == set(SERVED[:2])
    assert methods.find("*/List") == set(SERVED[1:3])
    assert methods.find("*") == set(SERVED)


def test_a_name_ends_where_a_word_of_the_full_one_begins(methods: Methods) -> None:
    with pytest.raises(UnknownMethod):
        methods.find("mages/List")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("Content/Lst", "no method 'Content/Lst' is served; Content has List"),
        ("Contents/List", "did you mean containerd.services.content.v1.Content/List"),
        ("Images/Get", "'Images/Get' may mean containerd.services.images.v1.Images/Get or other.Images/Get"),
    ],
)
def test_a_name_that_means_nothing_or_too_much_is_refused_with_a_hint(methods: Methods, name: str, hint: str) -> None:
    with pytest.raises(UnknownMethod) as refusal:
        methods.find(name)

    assert hint in str(refusal.value)
