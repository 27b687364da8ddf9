"""Which program a runtime's name stands for. Clauses SHM-001 to SHM-004."""

from __future__ import annotations

import os
import shutil
import sys
import threading

from refimpl.contract.errors import Unknown

_HINT = "correct runtime name should be either format like `io.containerd.runc.v1` or a full path to the binary"


class ShimBinaries:
    """Finds shims by the names of runtimes, and remembers for the life of the daemon what it found (SHM-002)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}

    def resolve(self, name: str) -> str:
        """The path of the shim that a runtime's name, or a path, stands for.

        Raises:
            Unknown: there is none (SHM-003), or that is no name of a runtime (SHM-001, SHM-004).
        """
        if name.startswith("/"):
            if not os.path.exists(name):
                raise Unknown(f"invalid custom binary path: stat {name}: no such file or directory")
            return name
        binary = shim_name(name)
        with self._lock:
            if binary not in self._found:
                self._found[binary] = _look_up(name, binary)
            return self._found[binary]


def shim_name(runtime: str) -> str:
    """The name of the program: ``containerd-shim-runc-v2`` for ``io.containerd.runc.v2`` (SHM-001).

    Raises:
        Unknown: not a runtime's name. A relative path is none: 1.6 would run what lies below the working directory
            (SHM-004).
    """
    parts = runtime.split(".")
    if len(parts) < 2 or not all(parts[-2:]) or "/" in runtime:
        raise Unknown(f"invalid runtime name {runtime}, {_HINT}")
    return f"containerd-shim-{parts[-2]}-{parts[-1]}"


def _look_up(runtime: str, binary: str) -> str:
    here = os.path.abspath(binary)
    if os.path.isfile(here):
        return here
    if found := shutil.which(binary):
        return os.path.abspath(found)
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), binary)
    if os.path.isfile(beside):
        return beside
    raise Unknown(f'runtime "{runtime}" binary not installed "{binary}": file does not exist')
