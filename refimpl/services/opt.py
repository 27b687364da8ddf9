"""io.containerd.internal.v1.opt: a directory for managed binaries, in front of PATH.

On disk: ``<path>/bin`` and ``<path>/lib`` (0711), kept when the daemon stops. The real twin makes them and puts them
    in front of PATH and LD_LIBRARY_PATH, so that shims, runtimes and stream processors are found there without a
    restart; the fake one, in whose world no binary runs, only tells the path. Clauses SVC-013 to 017.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from refimpl.contract.errors import Unknown
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import INTERNAL

MODE = 0o711


@dataclass(frozen=True, slots=True)
class Config:
    """The plugin's section.

    Attributes:
        path: the directory; empty for the daemon's working directory.
    """

    path: str = "/opt/containerd"


class Opt:
    """The directory while it is in front of the search paths."""

    def __init__(self, path: Path) -> None:
        self._before = {name: os.environ.get(name) for name in ("PATH", "LD_LIBRARY_PATH")}
        for name, folder in (("PATH", path / "bin"), ("LD_LIBRARY_PATH", path / "lib")):
            # With nothing there before, the value ends in a colon, as containerd's does (SVC-014).
            os.environ[name] = f"{folder}:{self._before[name] or ''}"

    def close(self) -> None:
        """Give the search paths back as they were: a process may hold several daemons in turn. Idempotent."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def init_real(ic: InitContext) -> Opt:
    """Make the directories and put them in front.

    Raises:
        Unknown: a directory cannot be made (SVC-016).
    """
    ic.exports["path"] = ic.config.path
    path = Path(ic.config.path)
    for folder in (path / "bin", path / "lib"):
        try:
            # Not mkdir(parents=True): that gives missing parents another mode.
            for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
                missing.mkdir(MODE)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Unknown(f"mkdir {path}: {reason[0].lower()}{reason[1:]}") from error
    return Opt(path.absolute())


def init_fake(ic: InitContext) -> object:
    """Tell the path and touch nothing."""
    ic.exports["path"] = ic.config.path
    return object()


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The directory, for either world."""
    return [
        Registration(INTERNAL, "opt", init=init_real, config=Config, backend="real"),
        Registration(INTERNAL, "opt", init=init_fake, config=Config, backend="fake"),
    ]
