"""A task's bundle on the fake disk: the directory that a shim works in, with the root file system mounted in it.

::

    STATE/<plugin>/<namespace>/<id>/   0700  config.json, rootfs/ 0711, work -> WORK (second runtime), log
    ROOT/<plugin>/<namespace>/<id>/    0711  the work directory, WORK

Clauses TSK-012 to TSK-014, SHM-024 to SHM-031, RT1-004, RT1-005.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.contract.mounts import FileType, Mount

if TYPE_CHECKING:
    from refimpl.backends.fake.host import FakeHost


@dataclass(frozen=True, slots=True)
class BundlePlaces:
    """Where one runtime keeps bundles.

    Attributes:
        state, root: the plugin's directories.
        first: of the first runtime, which keeps its fifos for logs elsewhere.
    """

    state: str
    root: str
    first: bool


class Bundle:
    """One bundle.

    Attributes:
        path: its directory.
        rootfs: where the root file system is mounted.
        work: the work directory.
    """

    def __init__(self, host: FakeHost, places: BundlePlaces, namespace: str, id: str) -> None:
        self._host = host
        self._places = places
        self.path = f"{places.state}/{namespace}/{id}"
        self.rootfs = f"{self.path}/rootfs"
        self.work = f"{places.root}/{namespace}/{id}"

    def make(self, config: bytes, spec: dict[str, Any]) -> None:
        """Make the directories.

        Args:
            config: the container's spec as it came.
            spec: the same, decoded.

        Raises:
            Unknown: there is one, left by a task that could not be removed (SHM-030).
        """
        fs = self._host.fs
        with self._host.lock:
            for path, mode in ((self._places.state, 0o711), (self._places.root, 0o711)):
                fs.makedirs(path, mode)
            for path in (self.path, self.work):
                fs.makedirs(path.rpartition("/")[0], 0o711)
            try:
                fs.mkdir(self.path, 0o700)
            except FileExistsError:
                raise Unknown(f"mkdir {self.path}: file exists") from None
            gid = _root_gid(spec)
            if gid:
                fs.chmod(self.path, 0o710)
                fs.lchown(self.path, 0, gid)
            fs.mkdir(self.rootfs, 0o711)
            if fs.exists(self.work):
                fs.rmtree(self.work)
            fs.mkdir(self.work, 0o711)
            fs.write(f"{self.path}/config.json", config)
            if self._places.first:
                for name in ("shim.stdout.log", "shim.stderr.log"):
                    fs.mknod(f"{self.work}/{name}", FileType.FIFO, 0o700)
            else:
                fs.symlink(self.work, f"{self.path}/work")
                fs.mknod(f"{self.path}/log", FileType.FIFO, 0o700)

    def mount(self, mounts: Sequence[Mount]) -> None:
        """Mount the root file system; after a failure none of it is mounted (TSK-014).

        Raises:
            Unknown: a mount failed.
        """
        for mount in mounts:
            try:
                self._host.mounts.mount(self.rootfs, mount)
            except (OSError, ContainerdError) as error:
                self._host.mounts.unmount_all(self.rootfs)
                reason = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
                told = f"&{{{mount.type} {mount.source} [{' '.join(mount.options)}]}}"
                raise Unknown(f"failed to mount rootfs component {told}: {reason}", bare=False) from error

    def record(self, name: str, content: str) -> None:
        """Keep a file of the shim's."""
        self._host.fs.write(f"{self.path}/{name}", content.encode())

    def unmount(self) -> None:
        """Undo all mounts. Idempotent."""
        self._host.mounts.unmount_all(self.rootfs)

    def remove(self) -> None:
        """Remove everything, but for a root directory that holds files of its own: then the bundle stays (SHM-030)."""
        fs = self._host.fs
        with self._host.lock:
            self.unmount()
            if fs.exists(self.work):
                fs.rmtree(self.work)
            if not fs.exists(self.path):
                return
            if fs.exists(self.rootfs):
                if fs.listdir(self.rootfs):
                    return
                fs.rmdir(self.rootfs)
            fs.rmtree(self.path)


def _root_gid(spec: dict[str, Any]) -> int:
    """The host's group for the container's root, where it is another one (SHM-026)."""
    mappings = (spec.get("linux") or {}).get("gidMappings") or []
    return next((int(m.get("hostID", 0)) for m in mappings if m.get("containerID", 0) == 0), 0)
