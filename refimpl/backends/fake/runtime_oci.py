"""What runc does for a shim, on the fake host: check a spec, prepare the root file system, find the program.

Messages are runc 1.1's, since clients show them. Of the spec it looks at process, root, mounts, hostname and, of
linux, namespaces, resources and cgroupsPath. Clauses TSK-008, TSK-055, TSK-057, TSK-063.
"""

from __future__ import annotations

import errno
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from refimpl.backends.fake import programs
from refimpl.backends.fake.cgroups import Cgroup
from refimpl.backends.fake.processes import FakeProcess, Image, PidNamespace, Program
from refimpl.backends.fake.processes_files import stat
from refimpl.backends.fake.programs_lookup import NOT_FOUND, LookupFailure
from refimpl.backends.fake.runtime_resources import INIT_USAGE, apply, check_types
from refimpl.contract.errors import ContainerdError
from refimpl.contract.mounts import FileType, Mount

if TYPE_CHECKING:
    from refimpl.backends.fake.fs_view import View
    from refimpl.backends.fake.host import FakeHost
    from refimpl.backends.fake.stdio_streams import Stream

_VIRTUAL = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"})
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class OCIFailure(Exception):
    """What runc complains of; the text is the end of its message."""


class OCIContainer:
    """A container as runc keeps it.

    Args:
        bundle: the directory that relative root paths start from.
        spec: the decoded spec.
        fallback_cgroup: its group where the spec names none.

    Attributes:
        group: its cgroup.
        root: its root file system.
        namespace: its pid namespace.
        private: whether that is its own, so that all its processes end with init.
    """

    group: Cgroup
    root: View

    def __init__(self, host: FakeHost, bundle: str, spec: dict[str, Any], fallback_cgroup: str) -> None:
        self._host = host
        self._spec = spec
        self._bundle = bundle
        self._mounted: list[str] = []
        linux = spec.get("linux") or {}
        own = [space for space in linux.get("namespaces") or [] if space.get("type") == "pid"]
        self.private = bool(own) and not own[0].get("path")
        self.namespace = PidNamespace() if self.private else host.processes.namespace
        self.group_path = _cgroup_path(linux.get("cgroupsPath") or fallback_cgroup)

    def create(self, streams: dict[int, Stream], *, terminal: bool) -> FakeProcess:
        """Make everything, and init, waiting.

        Raises:
            OCIFailure: runc would refuse; nothing of the container is left. The streams are still the caller's.
        """
        process = check_process(self._spec.get("process"))
        _check_terminal(process, terminal=terminal)
        try:
            self._enter_root()
            self._make_group()
            return self.spawn(process, streams, make_cwd=True)
        except (OCIFailure, OSError) as error:
            self.destroy()
            if isinstance(error, OSError):
                raise OCIFailure(f"unable to start container process: {_reason(error)}") from error
            raise

    def spawn(self, process: dict[str, Any], streams: dict[int, Stream], *, make_cwd: bool = False) -> FakeProcess:
        """Make a process in the container, not started yet.

        Raises:
            OCIFailure: it cannot be run.
        """
        user = process.get("user") or {}
        env = dict(variable.partition("=")[::2] for variable in process.get("env") or [])
        cwd = process.get("cwd") or "/"
        image = Image(
            args=process["args"],
            root=self.root,
            env=env,
            cwd=cwd,
            uid=int(user.get("uid") or 0),
            gid=int(user.get("gid") or 0),
            groups=tuple(user.get("additionalGids") or ()),
            hostname=self._spec.get("hostname") or "fake",
            streams=streams,
        )
        table = self._host.processes
        try:
            made = table.spawn(_not_found, image, self.group, namespace=self.namespace)
        except OSError as error:
            raise OCIFailure(f"unable to start container process: {_reason(error)}") from error
        try:
            self._enter_cwd(made, cwd, make=make_cwd)
            made.program = self._program(made)
        except OCIFailure:
            made.streams = {}
            if self.namespace.init is made:
                self.namespace.init = None
            made.end(0)
            raise
        made.env.setdefault("HOME", _home(made))
        return made

    def destroy(self) -> None:
        """Remove the cgroup and the mounts inside the root file system. Idempotent."""
        while self._mounted:
            with suppress(OSError):
                self._host.mounts.unmount(self._mounted.pop())
        # Another container may have been put into the same one.
        with suppress(OSError):
            self._host.cgroups.remove(self.group_path)

    def _program(self, made: FakeProcess) -> Program:
        name = made.args[0]
        try:
            return programs.lookup(made, name, made.env.get("PATH", _DEFAULT_PATH)).program(made.args)
        except LookupFailure as failure:
            raise OCIFailure(f'unable to start container process: exec: "{name}": {failure}') from None

    @staticmethod
    def _enter_cwd(made: FakeProcess, cwd: str, *, make: bool) -> None:
        try:
            if make:
                made.image.root.makedirs(cwd)
            elif stat(made, cwd).type is not FileType.DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        except OSError as error:
            reason = (error.strerror or "").lower()
            if make:
                failure = f"error during container init: mkdir {cwd}: {reason}"
            else:
                failure = f'chdir to cwd ("{cwd}") set in config.json failed: {reason}'
            raise OCIFailure(f"unable to start container process: {failure}") from None

    def _make_group(self) -> None:
        tree = self._host.cgroups
        resources = (self._spec.get("linux") or {}).get("resources") or {}
        try:
            check_types(resources)
        except ValueError as error:
            raise OCIFailure(str(error)) from None
        self.group = tree.make(self.group_path)
        try:
            apply(tree, self.group, resources, least=INIT_USAGE)
        except ValueError as error:
            step = "error during container init: error setting cgroup config for procHooks process"
            raise OCIFailure(f"unable to start container process: {step}: {error}") from None

    # --- the root file system

    def _enter_root(self) -> None:
        root = self._spec.get("root")
        if not root:
            raise OCIFailure("root must be specified")
        path = root.get("path") or ""
        if not path.startswith("/"):
            path = f"{self._bundle}/{path}"
        fs = self._host.fs
        try:
            fs.below(path)
        except OSError as error:
            raise OCIFailure(f"invalid rootfs: stat {path}: {_reason(error)}") from None
        with self._host.lock:
            inside = fs.below(path)
            for mount in self._spec.get("mounts") or []:
                self._make_point(inside, mount)
            if root.get("readonly"):
                self._mount(path, Mount("bind", path, options=("rbind", "ro")))
            for mount in self._spec.get("mounts") or []:
                self._mount_inside(path, mount)
            self.root = fs.below(path)
            self._make_devices()

    def _make_point(self, inside: View, mount: dict[str, Any]) -> None:
        """Somewhere to mount: runc makes it in the root file system, where it stays."""
        target = _destination(mount)
        with suppress(OSError):  # below another mount, it is made there
            if mount.get("type") == "bind" and self._is_file(mount):
                inside.makedirs(target.rpartition("/")[0] or "/")
                if not inside.exists(target):
                    inside.write(target, b"")
            else:
                inside.makedirs(target)

    def _is_file(self, mount: dict[str, Any]) -> bool:
        with suppress(OSError):
            return self._host.fs.lstat(mount.get("source") or "").type is not FileType.DIRECTORY
        return False

    def _mount_inside(self, path: str, mount: dict[str, Any]) -> None:
        kind, source = mount.get("type") or "", mount.get("source") or ""
        options = tuple(mount.get("options") or ())
        target = _destination(mount)
        if kind in _VIRTUAL:
            kept = tuple(o for o in options if o.partition("=")[0] in {"mode", "size", "ro"}) if kind == "tmpfs" else ()
            wanted = Mount("tmpfs", kind, options=kept or ("mode=755",))
        else:
            flags = tuple(o for o in options if o in {"bind", "rbind", "ro"})
            wanted = Mount("bind", source, options=flags or ("rbind",))
        try:
            with suppress(FileExistsError):
                if not self._host.fs.exists(f"{path}{target}"):
                    self._host.fs.makedirs(f"{path}{target}")
            self._mount(f"{path}{target}", wanted)
        except (OSError, ContainerdError) as error:
            what = f'error mounting "{source}" to rootfs at "{mount.get("destination")}"'
            step = "error during container init"
            raise OCIFailure(f"unable to start container process: {step}: {what}: {_reason(error)}") from error

    def _mount(self, target: str, mount: Mount) -> None:
        self._host.mounts.mount(target, mount)
        self._mounted.append(target)

    def _make_devices(self) -> None:
        # A read-only root file system without a /dev of its own goes without.
        with suppress(OSError):
            self.root.makedirs("/dev")
            for name, device in _DEVICES.items():
                if not self.root.exists(f"/dev/{name}"):
                    self.root.mknod(f"/dev/{name}", FileType.CHAR, 0o666, device)
            for name, target in _LINKS.items():
                if not self.root.exists(f"/dev/{name}"):
                    self.root.symlink(target, f"/dev/{name}")


def check_process(process: dict[str, Any] | None) -> dict[str, Any]:
    """What runc asks of any process; answers with it.

    Raises:
        OCIFailure: it is not there.
    """
    if not process:
        raise OCIFailure("process property must not be empty")
    if not process.get("cwd"):
        raise OCIFailure("Cwd property must not be empty")
    if not process["cwd"].startswith("/"):
        raise OCIFailure("Cwd must be an absolute path")
    if not process.get("args"):
        raise OCIFailure("args must not be empty")
    return process


def _check_terminal(process: dict[str, Any], *, terminal: bool) -> None:
    wanted = bool(process.get("terminal"))
    if terminal and not wanted:
        raise OCIFailure("cannot use console socket if runc will not detach or allocate tty")
    if wanted and not terminal:
        raise OCIFailure("cannot allocate tty if runc will detach without setting console socket")


def _not_found(_process: FakeProcess) -> int:
    """A process before its program is known."""
    return NOT_FOUND


def _cgroup_path(path: str) -> str:
    """A path from ``cgroupsPath``; systemd's form ``slice:prefix:name`` becomes the path that systemd makes of it."""
    match = re.fullmatch(r"([^/:]*):([^/:]*):([^/:]+)", path)
    if match:
        return f"/{match[1] or 'system.slice'}/{match[2]}-{match[3]}.scope"
    return path if path.startswith("/") else f"/{path}"


def _destination(mount: dict[str, Any]) -> str:
    return "/" + "/".join(step for step in (mount.get("destination") or "").split("/") if step not in {"", ".", ".."})


def _home(made: FakeProcess) -> str:
    """The home directory of the process's user."""
    with suppress(OSError):
        for line in made.image.root.read("/etc/passwd").decode(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) > 5 and fields[2] == str(made.image.uid):
                return fields[5] or "/"
    return "/"


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
