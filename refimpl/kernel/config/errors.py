"""What is wrong with a configuration, and where: file, line and key."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class ConfigError(Exception):
    """A configuration that cannot be used; the message names the file, the line and the key as far as there are any."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a value was written: a key path inside a file.

    Attributes:
        file: None for a value that was made by a program.
        text: the file's content, kept to find lines in.
        keys: path to the value, without quotes.
    """

    file: Path | None = None
    text: str = ""
    keys: tuple[str, ...] = ()

    def at(self, *keys: str) -> Position:
        """The position of something below this one."""
        return Position(self.file, self.text, (*self.keys, *keys))

    @property
    def key(self) -> str:
        """The key path as TOML writes it."""
        return ".".join(_quoted(key) for key in self.keys)

    @property
    def line(self) -> int:
        """The line on which the value begins, counted from 1; 0 when it is in no file, or the file itself."""
        return line_of(self.text, self.keys) if self.file is not None and self.keys else 0

    def __str__(self) -> str:
        if self.file is None:
            return self.key
        line = self.line
        place = f"{self.file}:{line}" if line else str(self.file)
        return f"{place}: {self.key}" if self.keys else place

    def fields(self) -> dict[str, object]:
        """File, row and key, for a line of the log."""
        return {"file": self.file, "row": self.line, "key": self.keys[-1] if self.keys else ""}

    def error(self, message: str) -> ConfigError:
        """An error about the value here."""
        return ConfigError(f"{self}: {message}" if str(self) else message)


def line_of(text: str, keys: Sequence[str]) -> int:
    """The line (from 1) on which the value at ``keys`` begins; 0 if there is none.

    tomllib tells no positions. The first lines of a document that parse are a document too, so the value begins after
    the longest head that parses and lacks it. Quadratic, but it is exact for every way to write TOML and runs
    only when there is something to complain about.
    """
    lines = text.splitlines(keepends=True)
    without = 0
    for count in range(1, len(lines) + 1):
        try:
            head = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _has(head, keys):
            return without + 1
        without = count
    return 0


def _has(document: object, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


def _quoted(key: str) -> str:
    bare = key and all(character.isascii() and (character.isalnum() or character in "_-") for character in key)
    return key if bare else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
