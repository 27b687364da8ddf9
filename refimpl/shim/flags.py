"""The command line of a shim, read as Go's flag package reads one (SHM-005, SHM-012, SHM-014, SHM-040)."""

from __future__ import annotations

_TEXT = {
    "namespace": "namespace that owns the shim",
    "id": "id of the task",
    "address": "gRPC address of the daemon",
    "publish-binary": "program that publishes events where TTRPC_ADDRESS is not set",
    "bundle": "directory of the bundle, for delete; the working directory without it",
    "socket": "path of the socket to serve on, instead of file descriptor 3",
}
_SWITCHES = {"debug": "log more", "v": "print the version and exit"}


class UsageError(Exception):
    """The command line cannot be understood."""


class Flags:
    """What the command line says.

    Attributes:
        namespace, id, address, publish_binary, bundle, socket: empty where they were not given.
        debug, version: whether they were given.
        action: the first word that is no flag: ``start``, ``delete``, or empty to serve.
    """

    def __init__(self, arguments: list[str]) -> None:
        """Read the words after the program's name.

        Raises:
            UsageError: an unknown flag, or one without its value.
        """
        values = dict.fromkeys(_TEXT, "")
        switches = dict.fromkeys(_SWITCHES, False)
        words = iter(arguments)
        self.action = ""
        for word in words:
            if not word.startswith("-") or word == "-":
                self.action = word
                break
            if word == "--":
                self.action = next(words, "")
                break
            name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
            if name in _SWITCHES:
                switches[name] = not equals or value in {"1", "t", "T", "true", "TRUE", "True"}
            elif name not in _TEXT:
                raise UsageError(f"flag provided but not defined: -{name}")
            elif equals:
                values[name] = value
            else:
                following = next(words, None)
                if following is None:
                    raise UsageError(f"flag needs an argument: -{name}")
                values[name] = following
        self.namespace, self.id, self.address = values["namespace"], values["id"], values["address"]
        self.publish_binary, self.bundle, self.socket = values["publish-binary"], values["bundle"], values["socket"]
        self.debug, self.version = switches["debug"], switches["v"]


def usage(program: str) -> str:
    """The flags with a line for each."""
    entries = {**{f"{name} string": text for name, text in _TEXT.items()}, **_SWITCHES}
    lines = [f"  -{name}\n    \t{text}" for name, text in sorted(entries.items())]
    return "\n".join([f"Usage of {program}:", *lines])
