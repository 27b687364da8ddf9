"""Filters mean what they mean to containerd: answers and texts were recorded from the real daemon (SVC-026 to 040)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.filters import Adaptor, map_value, parse

RECORDED = json.loads(Path(__file__).with_name("filters.json").read_text(encoding="utf-8"))


def adaptor(container: dict[str, Any]) -> Adaptor:
    """What containerd lets filters see of a container."""

    def value(path: Sequence[str]) -> str | None:
        match path:
            case ["id", *_]:
                return container["id"] or None
            case ["image", *_]:
                return container["image"] or None
            case ["runtime", "name", *_]:
                return container["runtime"] or None
            case ["labels", *_]:
                return map_value(path, container["labels"])
        return None

    return value


def found(*filters: str) -> list[str]:
    wanted = parse(filters)
    return [container["id"] for container in RECORDED["containers"] if wanted(adaptor(container))]


@pytest.mark.parametrize("text,answer", RECORDED["filters"], ids=[ascii(text) for text, _ in RECORDED["filters"]])
def test_a_filter_finds_and_refuses_what_it_does_with_containerd(text: str, answer: list[str] | str | None) -> None:
    if isinstance(answer, list):
        assert found(text) == answer
        return

    with pytest.raises(InvalidArgument) as refused:
        parse([text])

    if answer is not None:
        assert str(refused.value) == answer


def test_no_filter_finds_everything() -> None:
    assert found() == ["f0", "f1", "f2"]


def test_several_filters_are_alternatives_and_a_comma_is_none() -> None:
    assert found("id==f0", "id==f2") == ["f0", "f2"]
    assert found("id==f0,id==f2") == []
    assert found("labels.same==s,labels.n!=0") == ["f1", "f2"]


def test_one_filter_that_does_not_parse_fails_the_good_ones_too() -> None:
    with pytest.raises(InvalidArgument, match='unsupported operator "="'):
        parse(["id==f1", "bad="])


def test_the_offending_character_is_marked_even_if_it_takes_several_bytes() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(["id.é"])

    assert str(refused.value) == "filters: parse error: [id. >|é|< ]: expected field or quoted: invalid argument"


def test_thousands_of_filters_and_a_very_long_one_are_understood() -> None:
    assert found(*(f"id==c{number}" for number in range(2000)), "id==f1") == ["f1"]
    assert found("id==" + "x" * 100_000) == []
