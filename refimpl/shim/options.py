"""The options of a runtime: as they come with a create, and as they are kept in the bundle (SHM-065, SHM-067)."""

from __future__ import annotations

import json
import os
from typing import Any

from refimpl.contract.errors import InvalidArgument, Unknown

RUNC, GENERIC = "containerd.runc.v1.Options", "runtimeoptions.v1.Options"
"""Types of options: runc's, and those that a daemon sends to a runtime that it does not know, with a file's path."""

_TOML = {
    "NoPivotRoot": "no_pivot_root",
    "NoNewKeyring": "no_new_keyring",
    "ShimCgroup": "shim_cgroup",
    "IoUid": "io_uid",
    "IoGid": "io_gid",
    "BinaryName": "binary_name",
    "Root": "root",
    "CriuPath": "criu_path",
    "SystemdCgroup": "systemd_cgroup",
    "CriuImagePath": "criu_image_path",
    "CriuWorkPath": "criu_work_path",
}
"""The names that containerd's own configuration has for the options."""


class Options:
    """Options of a container.

    Attributes:
        values: those that are set, by their names in ``containerd.runc.v1.Options``.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        """A text option; empty where it is not set."""
        return str(self.values.get(name, ""))

    def flag(self, name: str) -> bool:
        """A switch."""
        return bool(self.values.get(name, False))

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group that the pipes of a container are given to; None for nobody."""
        if not self.values.keys() & {"io_uid", "io_gid"}:
            return None
        return int(self.values.get("io_uid", 0)), int(self.values.get("io_gid", 0))

    def write(self, bundle: str) -> None:
        """Keep them in the bundle: ``options.json``, and the name of the OCI runtime in ``runtime``."""
        for name, text in (("options.json", json.dumps(self.values)), ("runtime", self.text("binary_name"))):
            descriptor = os.open(os.path.join(bundle, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)


def read_options(bundle: str) -> Options:
    """The options in a bundle; none where nothing was created yet, or it was not by this shim (SHM-044).

    Raises:
        OSError: the file cannot be read.
        ValueError: it is none of ours.
    """
    try:
        with open(os.path.join(bundle, "options.json"), encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError:
        values = {}
    if not isinstance(values, dict):
        raise ValueError("options.json holds no object")  # noqa: TRY004  # as bad as what is no JSON at all
    return Options(values)


def unpack_options(type_url: str, value: bytes) -> Options:
    """The options of a create request; no type means none.

    Raises:
        InvalidArgument: another type, or a value that is not of its type.
        Unknown: the file that they name cannot be read.
    """
    if not type_url:
        return Options({})
    # protobuf is loaded by now, these two modules for those who send options.
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        if type_url == RUNC:
            from refimpl.api.runc_v1_pb2 import Options as RuncOptions  # noqa: PLC0415

            return Options({field.name: found for field, found in RuncOptions.FromString(value).ListFields()})
        if type_url == GENERIC:
            from refimpl.api.runtimeoptions_v1_pb2 import Options as GenericOptions  # noqa: PLC0415

            return _read_file(GenericOptions.FromString(value).config_path)
    except DecodeError as error:
        raise InvalidArgument(f"options of type {type_url}: {error}") from error
    raise InvalidArgument(f"options of type {type_url} are none of an OCI runtime")


def _read_file(path: str) -> Options:
    """Options from a TOML file, with the names that containerd's configuration has for them."""
    if not path:
        return Options({})
    import tomllib  # noqa: PLC0415  # for the few who have such a file

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise Unknown(f"options in {path}: {error}", bare=False) from error
    unknown = sorted(set(table) - set(_TOML))
    if unknown:
        raise InvalidArgument(f"options in {path}: unknown {', '.join(unknown)}")
    return Options({_TOML[name]: value for name, value in table.items()})
