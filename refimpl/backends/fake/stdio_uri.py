"""The URIs of standard streams, read as Go's net/url reads them, with its messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")


@dataclass(frozen=True, slots=True)
class StdioURI:
    """An URI in parts; a plain path has no scheme."""

    scheme: str
    path: str
    query: str = ""


def parse_uri(text: str) -> StdioURI:
    """Take an URI apart.

    Raises:
        ValueError: it is none, with Go's words.
    """
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text):
        raise ValueError(f'parse "{text}": net/url: invalid control character in URL')
    bad = _BAD_ESCAPE.search(text.partition("?")[0])
    if bad:
        raise ValueError(f'parse "{text}": invalid URL escape "{bad[0]}"')
    if text.startswith(":"):
        raise ValueError(f'parse "{text}": missing protocol scheme')
    match = _SCHEME.match(text)
    if match is None:
        return StdioURI("", text)
    rest, _, query = text[match.end() :].partition("?")
    if rest.startswith("//"):
        _, slash, below = rest[2:].partition("/")
        rest = slash + below
    return StdioURI(match[1].lower(), unquote(rest), query)
