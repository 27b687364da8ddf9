"""Which shims are installed on the fake host, and how a runtime's name leads to one. Clauses SHM-001 to SHM-004."""

from __future__ import annotations

INSTALLED = ("containerd-shim-runc-v1", "containerd-shim-runc-v2")
"""Shims in ``/usr/bin`` of the fake host; both run the built-in programs."""


def resolve(name: str) -> str:
    """The path of the shim that a runtime's name, or a path, stands for.

    Raises:
        ValueError: there is none; the text is containerd's.
    """
    if name.startswith("/"):
        if name.rpartition("/")[2] not in INSTALLED:
            raise ValueError(f"invalid custom binary path: stat {name}: no such file or directory")
        return name
    parts = name.split(".")
    if len(parts) < 2 or not parts[0]:
        hint = "correct runtime name should be either format like `io.containerd.runc.v1` or a full path to the binary"
        raise ValueError(f"invalid runtime name {name}, {hint}")
    binary = f"containerd-shim-{parts[-2]}-{parts[-1]}"
    if binary not in INSTALLED:
        raise ValueError(f'runtime "{name}" binary not installed "{binary}": file does not exist')
    return f"/usr/bin/{binary}"
