"""Names between quotes (refimpl.contract.quoting): on one line, and read back by the filter language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.contract.filters import parse
from refimpl.contract.quoting import quoted


@pytest.mark.parametrize(
    "text,expected",
    [
        ("", '""'),
        ("docker.io/x:1", '"docker.io/x:1"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\0\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("é世🙂", '"é世🙂"'),
        ("\u200b\U000e0001", r'"\u200b\U000e0001"'),
    ],
)
def test_quotes_are_those_that_containerd_prints(text: str, expected: str) -> None:
    assert quoted(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_filter_reads_back_what_was_quoted(text: str) -> None:
    assert parse([f"name=={quoted(text)}"])(lambda _path: text)
