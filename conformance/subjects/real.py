"""``real``: all plugins with real backends, in this process, on directories of their own below one temporary directory.

Everything that a daemon would touch is touched: mounts are made, shims are started, and all of it is undone at the
end. What only a process of its own has (a command line, a log, a death) is judged with ``daemon:real``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.subjects import machine
from conformance.subjects.base import SubjectError
from conformance.subjects.configuration import merged
from conformance.subjects.in_process import InProcess
from conformance.subjects.process import Layout, end_shims, remove_tree
from refimpl.contract.mounts import TemporaryMounts
from refimpl.kernel import Kernel

_SNAPSHOTTERS = "io.containerd.snapshotter.v1"


class RealSubject(InProcess):
    """The real plugins behind the services, spoken to as objects. Needs root.

    Args:
        extra, config, whole: as for ``InProcess``.
    """

    def __init__(
        self, name: str = "real", *, extra: Sequence[object] = (), config: str = "", whole: bool = True
    ) -> None:
        super().__init__(name, "real", extra=extra, config=config, whole=whole)
        self._layout: Layout | None = None
        self.capabilities |= {"disk", "root", "ttrpc"} | machine.capabilities()

    def open(self) -> None:
        """Make the directories, unless this is a restart, and boot the kernel on them.

        Raises:
            SubjectError: this process is not root, or the plugins do not start.
        """
        if os.geteuid() != 0:
            raise SubjectError(f"{self.name} needs root: it mounts")
        if self._layout is None:
            self._layout = Layout(Path(tempfile.mkdtemp(prefix="cfm-")))
            # As the daemon makes them.
            for path, mode in ((self._layout.root, 0o700), (self._layout.state, 0o711), (self._mounts, 0o700)):
                path.mkdir(mode=mode)
        self.root = self._layout.root
        super().open()

    @property
    def _mounts(self) -> Path:
        assert self._layout is not None, "made in open"
        return self._layout.root / "tmpmounts"

    def place(self) -> tuple[Path, Path]:
        """Below the temporary directory."""
        assert self._layout is not None, "made in open"
        return self._layout.root, self._layout.state

    def world(self) -> Mapping[type[Any], object]:
        """Temporary mounts where a daemon has them; all else is the machine's."""
        return {TemporaryMounts: TemporaryMounts(str(self._mounts))}

    def base(self) -> str:
        """Nothing outside the temporary directory is made; shims call back on our own socket."""
        assert self._layout is not None, "made in open"
        return merged(self._layout.own_opt(), f'[grpc]\naddress = "{self._served.path}"\n')

    def booted(self, kernel: Kernel) -> None:
        """Serve the shims, which call back on either socket, and see which snapshotters work here."""
        self._served.serve_ttrpc(self.instances())
        self._served.serve_grpc(self.instances())
        ids = [p.registration.id for p in kernel.plugins if p.registration.type == _SNAPSHOTTERS and p.error is None]
        self.snapshotters = sorted(ids, key=lambda id: (id != "overlayfs", id))

    def close(self) -> None:
        """End the kernel; then unmount and remove all that it left."""
        layout, self._layout = self._layout, None
        address = self._served.path if layout is not None else ""
        super().close()
        if layout is not None:
            end_shims(address, layout.state)
            remove_tree(layout.top)

    def another(self, config: str) -> InProcess:
        """A second root."""
        return RealSubject(f"{self.name} (own)", extra=self._extra, config=config, whole=False)
