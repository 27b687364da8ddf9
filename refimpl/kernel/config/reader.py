"""Reading a configuration: one file, the files that it imports, and so on, merged breadth first.

As containerd 1.6 merges (DMN-010 to DMN-015): a later value wins unless it is zero (an empty text, 0, false), lists
are appended, maps are merged by key, and a plugin's section, a proxy plugin or a stream processor replaces an earlier
one as a whole. A file is read once, however it is spelled, so circles are harmless. A name with ``*`` is a pattern,
relative to the working directory; any other name is relative to the file that imports it.
"""

from __future__ import annotations

import dataclasses
import glob
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from refimpl.kernel.config.decode import Unknown, overlay, refuse_unknown
from refimpl.kernel.config.durations import Duration
from refimpl.kernel.config.errors import ConfigError, Position
from refimpl.kernel.config.model import Configuration, Section

DEFAULT_PATH = Path("/etc/containerd/config.toml")
"""What is read when no file is named; it need not exist (DMN-001)."""

T = TypeVar("T")
_URI_PARTS = 4
_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)\Z", re.DOTALL)
_BROKEN_CLASS = re.compile(r"\[[^\]]*\Z")


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as read.

    Attributes:
        values: the whole document.
    """

    path: Path
    text: str
    values: Mapping[str, Any]

    @property
    def position(self) -> Position:
        """The file as a place."""
        return Position(self.path, self.text)


def load(path: Path | None = None, unknown: Unknown = refuse_unknown, *, default: Path = DEFAULT_PATH) -> Configuration:
    """The configuration of a file and its imports.

    Args:
        path: None for the default file, or containerd's defaults if that does not exist.
        unknown: called for each key outside plugins' sections that is not part of the format; the default refuses it.

    Raises:
        ConfigError: a file that is missing or does not parse, a value of the wrong type, a plugin name of the wrong
            form.
    """
    if path is None:
        if not default.exists():
            return Configuration()
        path = default
    result = dataclasses.replace(Configuration(), version=0)
    sources = []
    for source in _files(path):
        sources.append(source)
        result = _merged(result, _decoded(source, unknown))
    result = dataclasses.replace(result, imports=[str(source.path) for source in sources])
    if not result.by_id:
        _check_uris(result, sources)
    return result


def read(path: Path) -> SourceFile:
    """One file, parsed and not yet interpreted.

    Raises:
        ConfigError: it cannot be read, or is not TOML; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from error
    try:
        return SourceFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.match(str(error))
        where = f":{place[2]}:{place[3]}" if place else ""
        raise ConfigError(f"{path}{where}: failed to parse TOML: {place[1] if place else error}") from error


def _files(path: Path) -> Iterator[SourceFile]:
    """The main file, its imports in order, then their imports; each once."""
    waiting, seen = [path], set()
    while waiting:
        current = waiting.pop(0)
        identity = current.absolute().resolve()
        if identity in seen:
            continue
        seen.add(identity)
        source = read(current)
        yield source
        imports = source.values.get("imports", [])
        if isinstance(imports, list):  # anything else is refused when the file is decoded
            waiting += [found for entry in imports for found in _resolve(current, str(entry), source)]


def _resolve(importer: Path, entry: str, source: SourceFile) -> Sequence[Path]:
    if "*" not in entry:
        return [importer.parent / entry]
    if _BROKEN_CLASS.search(entry):
        raise source.position.at("imports").error(f'syntax error in pattern "{entry}"')
    return [Path(match) for match in sorted(glob.glob(entry, include_hidden=True))]  # noqa: PTH207  # relative to the working directory, like containerd


def _decoded(source: SourceFile, unknown: Unknown) -> Configuration:
    values = dict(source.values)
    plugins = values.pop("plugins", {})
    position = source.position
    decoded = overlay(_zero(Configuration), values, position, unknown)
    if not isinstance(plugins, dict):
        raise position.at("plugins").error(f"expected a table, got {plugins!r}")
    for name, section in plugins.items():
        if not isinstance(section, dict):
            raise position.at("plugins", name).error(f"expected a table, got {section!r}")
    for name, text in decoded.timeouts.items():
        try:
            Duration.parse(text)
        except ValueError as error:
            raise position.at("timeouts", name).error(f"unable to parse {text} into a time duration") from error
    sections = {name: Section(section, position.at("plugins", name)) for name, section in plugins.items()}
    return dataclasses.replace(decoded, plugins=sections)


def _merged(base: T, later: T) -> T:
    """``later`` over ``base``: zero values change nothing, lists are appended, maps merged by key."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(base):  # type: ignore[arg-type]  # a dataclass instance
        old, new = getattr(base, field.name), getattr(later, field.name)
        if dataclasses.is_dataclass(new):
            changes[field.name] = _merged(old, new)
        elif isinstance(new, list):
            changes[field.name] = old + new
        elif isinstance(new, Mapping):
            changes[field.name] = {**old, **new}
        elif new:
            changes[field.name] = new
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _zero(cls: type[T]) -> T:
    """An instance in which nothing is said: zero, empty or False everywhere."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint = hints[field.name]
        kind = typing.get_origin(hint) or hint
        if dataclasses.is_dataclass(hint):
            values[field.name] = _zero(typing.cast("type[Any]", hint))
        else:
            values[field.name] = {} if issubclass(kind, Mapping) else kind()
    return cls(**values)


def _check_uris(configuration: Configuration, sources: Sequence[SourceFile]) -> None:
    """Plugins have their full names in version 2 (PLG-033)."""
    for what, key, names in (
        ("disabled plugin", "disabled_plugins", configuration.disabled_plugins),
        ("required plugin", "required_plugins", configuration.required_plugins),
        ("plugin key", "plugins", configuration.plugins),
    ):
        for name in names:
            if len(name.split(".")) < _URI_PARTS:
                keys = (key, name) if key == "plugins" else (key,)
                place = next(s.position.at(*keys) for s in sources if name in s.values.get(key, ()))
                raise place.error(f'invalid {what} URI "{name}" expect io.containerd.x.vx')
