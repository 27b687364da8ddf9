"""JSON read as Go's encoding/json reads it, with its words for what is wrong: clients show them."""

from __future__ import annotations

import json
from typing import Any

_LITERALS = ("true", "false", "null")


def loads(data: bytes) -> Any:
    """Decode a JSON text.

    Raises:
        ValueError: it is none; the text is Go's.
    """
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise ValueError(_go_text(error)) from None
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8 in JSON input") from None


def loads_object(data: bytes, go_type: str) -> dict[str, Any]:
    """Decode a JSON object.

    Args:
        go_type: into what Go decodes it, for the message.

    Raises:
        ValueError: it is none.
    """
    value = loads(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {kind(value)} into Go value of type {go_type}")  # noqa: TRY004  # bad input
    return value


def kind(value: object) -> str:
    """What Go calls a decoded value in its messages."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def _go_text(error: json.JSONDecodeError) -> str:
    text, at = error.doc, error.pos
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    rest = text[at:]
    for literal in _LITERALS:
        if rest[:1] == literal[0]:
            same = next((n for n, letter in enumerate(literal) if rest[n : n + 1] != letter), len(literal))
            if same < len(literal) and at + same < len(text):
                found, wanted = rest[same], literal[same]
                return f"invalid character '{found}' in literal {literal} (expecting '{wanted}')"
    if not rest or rest[:1] == '"':
        return "unexpected end of JSON input"
    if "Extra data" in error.msg:
        return f"invalid character '{rest[0]}' after top-level value"
    if "property name" in error.msg:
        if rest[1:].strip() == "" and rest[0] not in "}'":
            return "unexpected end of JSON input"
        return f"invalid character '{rest[0]}' looking for beginning of object key string"
    if "':' delimiter" in error.msg:
        return f"invalid character '{rest[0]}' after object key"
    if "',' delimiter" in error.msg:
        return f"invalid character '{rest[0]}' after object key:value pair"
    return f"invalid character '{rest[0]}' looking for beginning of value"
