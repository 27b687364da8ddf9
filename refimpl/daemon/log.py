"""The log as containerd writes it: one line of ``key=value`` or JSON for each event, on standard error only.

Fields come with ``extra={"fields": {...}}``. Clauses DMN-041, DMN-042.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from refimpl.api.status import text_of

TRACE = 5
"""Below debug; Python has no word for it."""

LEVELS: Mapping[str, int] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL + 10,
}
FORMATS = ("text", "json")

_PLAIN = re.compile(r"[A-Za-z0-9\-._/@^+]+\Z")


class LogSettingError(ValueError):
    """A level or a format that does not exist."""


def configure(level: str = "", form: str = "", stream: TextIO | None = None) -> None:
    """Send everything that ``refimpl`` logs to ``stream`` (standard error).

    Args:
        level: one of ``LEVELS`` in any case; empty for ``info``.
        form: ``text`` or ``json``, exactly; empty for ``text``.

    Raises:
        LogSettingError: another word.
    """
    number = LEVELS.get(level.lower() or "info")
    if number is None:
        raise LogSettingError(f'not a valid logrus Level: "{level}"')
    if (form or "text") not in FORMATS:
        raise LogSettingError(f"unknown log format: {form}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    logger = logging.getLogger("refimpl")
    logger.handlers[:] = [handler]
    logger.setLevel(number)
    logger.propagate = False


class TextFormatter(logging.Formatter):
    """``time="..." level=info msg="..." key=value``; keys in alphabetical order."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; only a trace of our own failure adds more."""
        head = {"time": _time(record), "level": _level(record), "msg": record.getMessage()}
        pairs = [*head.items(), *sorted(_fields(record).items())]
        line = " ".join(f"{key}={_value(key, text)}" for key, text in pairs)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One object for each line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        fields = dict(sorted(_fields(record).items()))
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        head = {"level": _level(record), "msg": record.getMessage(), "time": _time(record)}
        return json.dumps({**fields, **head}, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, str]:
    fields = getattr(record, "fields", {}).items()
    return {key: text_of(value) if isinstance(value, BaseException) else str(value) for key, value in fields}


def _level(record: logging.LogRecord) -> str:
    names = [name for name, number in LEVELS.items() if record.levelno >= number]
    return names[-1] if names else "trace"


def _time(record: logging.LogRecord) -> str:
    """RFC 3339 with nine digits, in local time."""
    seconds, rest = divmod(round(record.created * 1_000_000), 1_000_000)
    zone = time.strftime("%z", time.localtime(seconds))
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{rest:06d}000{offset}"


def _value(key: str, text: str) -> str:
    if key != "time" and _PLAIN.match(text):
        return text
    return json.dumps(text, ensure_ascii=False)
