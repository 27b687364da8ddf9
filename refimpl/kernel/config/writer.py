"""Writing a configuration: what is in force, as a file that can be read back, and a version 1 file as version 2.

Clauses DMN-057 to DMN-059.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from refimpl.kernel.config.decode import Unknown, decode, key_of, refuse_unknown
from refimpl.kernel.config.durations import Duration
from refimpl.kernel.config.model import Configuration
from refimpl.kernel.registration import Registration

_OLD_VERSIONS = {0, 1}


def document(
    configuration: Configuration, registrations: Iterable[Registration], unknown: Unknown = refuse_unknown
) -> dict[str, Any]:
    """The complete configuration as a TOML document of version 2.

    Args:
        registrations: all that were announced; those that are enabled and have a configuration get a section with all
            its keys, whatever the file says or leaves out.
        unknown: called for each key of a section that its plugin does not know; the default refuses it.

    Raises:
        ConfigError: a section that cannot be decoded.
    """
    plain = dataclasses.replace(configuration, plugins={})
    result = {key: value for key, value in encode(plain).items() if key != "refimpl"}
    named = [r for r in registrations if r.config is not None and not configuration.disables(r)]
    # Newer numbers are read as 2, so that is what they become.
    result["version"] = 2
    if configuration.refimpl.backends:
        result["refimpl"] = encode(configuration.refimpl)
    result["plugins"] = {r.uri: encode(_section(configuration, r, unknown)) for r in sorted(named, key=_uri)}
    if configuration.by_id:
        result["disabled_plugins"] = _renamed(configuration.disabled_plugins, registrations)
        result["required_plugins"] = _renamed(configuration.required_plugins, registrations)
    return result


def migrate(values: Mapping[str, Any], registrations: Iterable[Registration]) -> tuple[dict[str, Any], list[str]]:
    """A version 1 document as version 2: bare ids become the URIs that they stood for, all else stays.

    Returns:
        The document, and the ids that named no plugin (taken to be gRPC plugins, as containerd 2 does).
    """
    result = dict(values)
    if values.get("version", 0) not in _OLD_VERSIONS:
        return result, []
    known = list(registrations)
    ids = [*values.get("disabled_plugins", []), *values.get("required_plugins", []), *values.get("plugins", {})]
    result["version"] = 2
    for key in ("disabled_plugins", "required_plugins"):
        if key in values:
            result[key] = _renamed(values[key], known)
    if "plugins" in values:
        result["plugins"] = {
            uri: section
            for id_, section in values["plugins"].items()
            for uri in _renamed([id_], [r for r in known if r.config is not None] if _configured(id_, known) else known)
        }
    missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in {r.id for r in known}]
    return result, missing


def encode(value: Any) -> Any:
    """A dataclass (or anything inside one) as TOML values."""
    if isinstance(value, Duration):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((key_of(field), getattr(value, field.name)) for field in dataclasses.fields(value))
        return {key: encode(item) for key, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def _section(configuration: Configuration, registration: Registration, unknown: Unknown) -> Any:
    section = configuration.section(registration)
    if section is None:
        return registration.config()
    return decode(registration.config, section.values, section.position, unknown)


def _renamed(ids: Iterable[str], registrations: Iterable[Registration]) -> list[str]:
    known = list(registrations)
    result: dict[str, None] = {}
    for id_ in ids:
        uris = [r.uri for r in known if r.id == id_] or [f"io.containerd.grpc.v1.{id_}"]
        result.update(dict.fromkeys(uris))
    return list(result)


def _configured(id_: str, registrations: Iterable[Registration]) -> bool:
    return any(r.id == id_ and r.config is not None for r in registrations)


def _uri(registration: Registration) -> str:
    return registration.uri
