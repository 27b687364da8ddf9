"""Clauses as data: what is loaded is whole, and what is not whole is refused with its place."""

from __future__ import annotations

import json

import pytest

from conformance.areas import AREAS
from conformance.catalogue import ClauseError, Level, clause, load, parse
from conformance.needs import NEEDS, missing

WHOLE = {
    "id": "ABC-001",
    "title": "a title",
    "level": "MUST",
    "text": "a text",
    "plugins": ["io.containerd.content.v1.content"],
    "surface": "somewhere",
    "needs": [],
    "check": "look",
    "mutant": "it lies",
    "source": ["a file"],
    "since": "1.6",
    "observed": "seen",
}


def toml(**changes: object) -> str:
    values = {**WHOLE, **changes}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(["[[clause]]", *lines])


def test_a_whole_clause_is_read() -> None:
    (found,) = parse("area", toml())
    assert (found.id, found.area, found.level, found.plugins) == (
        "ABC-001",
        "area",
        Level.MUST,
        tuple(WHOLE["plugins"]),
    )
    assert found.as_dict()["level"] == "MUST"


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"title": None}, "missing title"),
        ({"colour": "red"}, "unknown field colour"),
        ({"id": "ABC1"}, "an id is letters"),
        ({"level": "MIGHT"}, "'MIGHT' is none of MUST, SHOULD, MAY"),
        ({"needs": ["luck"]}, "'luck' is no word of the needs"),
        ({"needs": ["root|luck"]}, "'luck' is no word of the needs"),
        ({"plugins": ["content"]}, "'content' is no plugin URI"),
        ({"text": " "}, "text is empty"),
    ],
)
def test_a_clause_that_is_not_whole_is_refused_by_name(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ClauseError, match=r"area.toml: ") as error:
        parse("area", toml(**changes))
    assert complaint in str(error.value)


def test_an_id_is_given_once() -> None:
    with pytest.raises(ClauseError, match="ABC-001 stands there twice"):
        parse("area", f"{toml()}\n{toml()}")


def test_a_file_with_anything_else_is_refused() -> None:
    with pytest.raises(ClauseError, match=r"expected .* tables only"):
        parse("area", "[other]\nx = 1\n")
    with pytest.raises(ClauseError, match=r"area.toml"):
        parse("area", "not toml")


def test_every_area_has_its_file_and_every_file_its_area() -> None:
    assert {found.area for found in load().values()} == set(AREAS)


def test_a_check_cites_only_clauses_and_needs_that_exist() -> None:
    with pytest.raises(ClauseError, match="no clause XXX-999"):
        clause("XXX-999")
    with pytest.raises(ClauseError, match="'luck' is no word"):
        clause("CNT-001", needs={"luck"})


def test_a_missing_need_is_explained_and_either_of_two_will_do() -> None:
    assert missing(frozenset({"wire"}), frozenset({"wire"})) == ""
    assert missing(frozenset({"cgroup-v1|cgroup-v2"}), frozenset({"cgroup-v2"})) == ""
    assert missing(frozenset({"ctr"}), frozenset()) == f"needs ctr: {NEEDS['ctr']}"
