"""Log labels become URIs as Go writes them."""

from __future__ import annotations

import pytest

from refimpl.contract.errors import Unknown
from refimpl.services.restart_logs import file_uri, parsed_uri


@pytest.mark.parametrize(
    "text,uri",
    [
        ("file:///D/i.log", "file:///D/i.log"),
        ("file:///a b.log", "file:///a%20b.log"),
        ("file:///a%20b.log", "file:///a%20b.log"),
        ("file:///a!b(c)*.log", "file:///a!b(c)*.log"),
        ("binary:///PROG?k1=v1&k2=a b", "binary:///PROG?k1=v1&k2=a b"),
        ("/plain/path", "/plain/path"),
        ("", ""),
    ],
)
def test_a_uri_keeps_its_text_but_for_a_path_that_is_not_escaped(text: str, uri: str) -> None:
    assert parsed_uri(text) == uri


@pytest.mark.parametrize(
    "text,reason",
    [
        ("%zz", 'invalid URL escape "%zz"'),
        ("file:///a%2", 'invalid URL escape "%2"'),
        (":foo", "missing protocol scheme"),
        ("file:///a\nb", "net/url: invalid control character in URL"),
    ],
)
def test_what_is_no_uri_says_why(text: str, reason: str) -> None:
    with pytest.raises(Unknown) as caught:
        parsed_uri(text)
    assert str(caught.value) == f'failed to parse {text} into url: parse "{text}": {reason}'


@pytest.mark.parametrize(
    "path,uri",
    [("/D/j.log", "file:///D/j.log"), ("/a b!/../c d", "file:///c%20d"), ("//x/./y/", "file:///x/y")],
)
def test_a_path_becomes_the_uri_of_a_file(path: str, uri: str) -> None:
    assert file_uri(path) == uri


def test_a_path_has_to_be_absolute() -> None:
    with pytest.raises(Unknown, match=r"^absolute path needed$"):
        file_uri("relative.log")
