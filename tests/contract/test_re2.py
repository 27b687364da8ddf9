"""Expressions mean what they mean to RE2; answers were recorded from the real daemon, which is written in Go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.contract import re2

RECORDED = json.loads(Path(__file__).with_name("expressions.json").read_text(encoding="utf-8"))

LETTERS = st.text(alphabet="ab\n.*K\u212a", max_size=8)


def found(expression: str) -> list[int]:
    try:
        automaton = re2.compile(expression)
    except re2.SyntaxError:
        return []
    return [number for number, value in enumerate(RECORDED["values"]) if automaton.found_in(value)]


@pytest.mark.parametrize(
    "expression,numbers", RECORDED["expressions"], ids=[ascii(text) for text, _ in RECORDED["expressions"]]
)
def test_an_expression_finds_what_it_finds_in_containerd(expression: str, numbers: list[int]) -> None:
    assert found(expression) == numbers


@pytest.mark.parametrize(
    "expression", ["(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"(a)\1", "(?>a)", "(?#a)", "a**", "a{1001}"]
)
def test_what_only_other_dialects_know_is_refused(expression: str) -> None:
    with pytest.raises(re2.SyntaxError):
        re2.compile(expression)


def test_repetitions_multiply_only_up_to_a_thousand() -> None:
    re2.compile("(x{100}){10}")

    with pytest.raises(re2.SyntaxError, match="invalid repeat count"):
        re2.compile("(x{100}){11}")


@pytest.mark.parametrize("expression", ["(a*)*b", "(a|aa)+b", "(.*)*b", "(a?){50}a{50}b"])
def test_no_expression_takes_longer_than_the_text_is_long(expression: str) -> None:
    """With a search that tries one way after the other, this would outlive the machine."""
    assert not re2.compile(expression).found_in("a" * 2000)


def test_groups_may_be_a_hundred_deep() -> None:
    assert re2.compile("(" * 100 + "a" + ")" * 100).found_in("a")

    with pytest.raises(re2.SyntaxError, match="nests too deeply"):
        re2.compile("(" * 101 + "a" + ")" * 101)


def test_more_moves_than_are_remembered_do_not_change_the_answer() -> None:
    automaton = re2.compile("^.*\U0001f642$")

    assert automaton.found_in("".join(map(chr, range(0x100, 0x6000))) + "\U0001f642")
    assert not automaton.found_in("".join(map(chr, range(0x100, 0x6000))))


@given(LETTERS, LETTERS)
def test_quoted_text_is_found_exactly_where_it_stands(needle: str, text: str) -> None:
    assert re2.compile(rf"\Q{needle}\E").found_in(text) == (needle in text)
    assert re2.compile(rf"\A\Q{needle}\E").found_in(text) == text.startswith(needle)
    assert re2.compile(rf"\Q{needle}\E$").found_in(text) == text.endswith(needle)


@given(st.text(alphabet=r"()[]{}|*+?\^$.-:ab1,PpQEdD<>", max_size=20), LETTERS)
def test_any_text_is_an_expression_or_refused_as_one(expression: str, text: str) -> None:
    try:
        automaton = re2.compile(expression)
    except re2.SyntaxError:
        return
    assert automaton.found_in(text) in {True, False}
