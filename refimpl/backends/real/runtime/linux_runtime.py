"""The first runtime: one shim of its own kind for each task. Clauses RT1-001 to RT1-030."""

from __future__ import annotations

import builtins
import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.message import Message

from refimpl.api import linux_runc_pb2, status, typeurl
from refimpl.api.task_events import Teller
from refimpl.backends.real.runtime.bundle import Bundle, BundlePlaces
from refimpl.backends.real.runtime.linux_shim import INIT_PID, LinuxShim, ShimSettings
from refimpl.backends.real.runtime.linux_task import LinuxTask
from refimpl.backends.real.runtime.shim import remove_bundle
from refimpl.backends.real.runtime.task_list import TaskList
from refimpl.backends.real.runtime.telling import teller
from refimpl.backends.real.runtime.watcher import Watcher
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded, Unimplemented, Unknown
from refimpl.contract.events import EventExchange
from refimpl.contract.identifiers import validate_identifier
from refimpl.contract.runtimes import CreateOptions, Exit, Task
from refimpl.contract.types import TypedAny

log = logging.getLogger("refimpl.runtime")

URI = "io.containerd.runtime.v1.linux"

_KILLED = 128 + 9
_RUNTIME_ROOT = "/run/containerd/runc"
_TERMINATE_SECONDS = 10.0

OptionsOf = Callable[[str, str], TypedAny | None]
"""The runtime's options in the record of a container, by namespace and id; raises ``NotFound`` without a record."""


@dataclass(frozen=True, slots=True)
class OCIRuntime:
    """The OCI runtime where options name none.

    Attributes:
        binary: a path, or a name on PATH.
        root: where it keeps its state, below the namespace; empty for the shim's default.
    """

    binary: str = "runc"
    root: str = ""


class LinuxRuntime:
    """A ``contract.runtimes.Runtime``.

    Args:
        options_of: asked when a task has to be ended whose shim is gone.

    Attributes:
        places: where bundles are.
    """

    def __init__(
        self,
        exchange: EventExchange,
        places: BundlePlaces,
        settings: ShimSettings,
        oci: OCIRuntime,
        options_of: OptionsOf,
    ) -> None:
        self.places = places
        self._exchange = exchange
        self._settings = settings
        self._oci = oci
        self._options_of = options_of
        self._watcher = Watcher()
        self._tasks: TaskList[LinuxTask] = TaskList()

    @property
    def id(self) -> str:
        return URI

    def create(self, ctx: CallContext, id: str, options: CreateOptions) -> Task:
        namespace = ctx.require_namespace()
        # It becomes a path.
        validate_identifier(id)
        if not self._settings.binary:
            raise Unimplemented("tasks without a shim")
        runc = _runc_options(options.runtime_options)
        cgroup = _shim_cgroup(options.task_options)
        bundle = self.places.bundle(namespace, id)
        bundle.make(options.spec.value)
        task = self._task(bundle)
        try:
            task.shim.start(runc, cgroup)
            task.create(ctx, options, (runc.runtime if runc is not None else "") or self._oci.binary)
        except BaseException as error:
            task.shim.kill()
            if isinstance(error, Canceled | DeadlineExceeded):
                self._take_back(bundle)
            remove_bundle(bundle)
            raise
        self._tasks.add(task)
        task.tell_created(options)
        if task.shim.gone.is_set():
            # It died before it was on the list, so that nobody has cleaned up.
            self._shim_ended(bundle)
        return task

    def _take_back(self, bundle: Bundle) -> None:
        """After a Create whose caller gave up: a container that came about all the same would keep its id."""
        try:
            self._terminate(bundle)
        except (ContainerdError, OSError, subprocess.SubprocessError) as error:
            fields = {"id": bundle.id, "namespace": bundle.namespace, "error": error}
            log.warning("failed to take back a container", extra={"fields": fields})

    def _task(self, bundle: Bundle) -> LinuxTask:
        shim = LinuxShim(self._settings, bundle, self._watcher, lambda: self._shim_ended(bundle))
        return LinuxTask(shim, self._teller(bundle), self._watcher, self._remove)

    def _teller(self, bundle: Bundle) -> Teller:
        return teller(self._exchange, bundle.namespace, bundle.id)

    def reload(self, bundle: Bundle, seconds: float) -> None:
        """List the task of an earlier daemon, or clean up after it (RT1-022).

        Args:
            seconds: how long its shim may take to answer.
        """
        fields = {"id": bundle.id, "namespace": bundle.namespace}
        task = self._task(bundle)
        try:
            task.shim.reload(seconds)
        except (ContainerdError, OSError) as error:
            log.error("connecting to shim", extra={"fields": {**fields, "error": error}})
            task.shim.kill()
            self._clean_up(bundle)
            return
        task.found(_pid(bundle))
        self._tasks.add(task)
        if task.shim.gone.is_set():
            self._shim_ended(bundle)

    def _shim_ended(self, bundle: Bundle) -> None:
        """A shim is gone: if its task was not deleted, it has to be ended and told of (RT1-021)."""
        fields = {"id": bundle.id, "namespace": bundle.namespace}
        log.info("shim reaped", extra={"fields": fields})
        task = self._tasks.peek(bundle.namespace, bundle.id)
        if task is None or task.shim.bundle is not bundle or not self._tasks.forget(task):
            return
        log.warning("cleaning up after killed shim", extra={"fields": fields})
        task.shim.kill()
        self._clean_up(bundle)

    def _clean_up(self, bundle: Bundle) -> None:
        """End what is left of a task without a shim, and tell of it."""
        end = Exit(_pid(bundle), _KILLED, time.time_ns())
        telling = self._teller(bundle)
        try:
            self._terminate(bundle)
        except (ContainerdError, OSError, subprocess.SubprocessError) as error:
            fields = {"id": bundle.id, "namespace": bundle.namespace, "error": error}
            log.warning("failed to terminate task", extra={"fields": fields})
            if self._settings.debug:
                # Left for somebody to look at (RT1-028).
                return
        telling.exited(bundle.id, end)
        remove_bundle(bundle)
        telling.deleted(end)

    def _terminate(self, bundle: Bundle) -> None:
        """Have the OCI runtime delete a container with all its processes, and unmount its root file system.

        Raises:
            NotFound: there is no record of the container, so nobody knows its OCI runtime.
            Unknown: the OCI runtime cannot.
        """
        options = _runc_options(self._options_of(bundle.namespace, bundle.id))
        binary = (options.runtime if options is not None else "") or self._oci.binary
        root = (options.runtime_root if options is not None else "") or self._oci.root or _RUNTIME_ROOT
        command = [binary, "--root", f"{root}/{bundle.namespace}", "delete", "--force", bundle.id]
        try:
            ended = subprocess.run(command, capture_output=True, check=False, timeout=_TERMINATE_SECONDS)
        except OSError as error:
            raise Unknown(f"{binary}: {status.text_of(OSError(error.errno, error.strerror))}") from error
        if ended.returncode:
            raise Unknown(f"{ended.stderr.decode(errors='replace').strip()}: exit status {ended.returncode}")
        bundle.unmount()

    def _remove(self, task: LinuxTask) -> None:
        """After a task was deleted: its shim and its directories go."""
        bundle = task.shim.bundle
        self._tasks.forget(task)
        task.shim.kill()
        remove_bundle(bundle)

    def get(self, ctx: CallContext, id: str) -> Task:
        return self._tasks.find(ctx, id)

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> builtins.list[Task]:
        return [*(self._tasks.all() if everywhere else self._tasks.of(ctx.require_namespace()))]

    def delete(self, ctx: CallContext, id: str) -> Exit:
        return self._tasks.find(ctx, id).delete(ctx)

    def close(self) -> None:
        """Let go of all shims, which go on by themselves (RT1-007). Idempotent."""
        for task in self._tasks.all():
            task.shim.leave()
        self._watcher.close()


def _pid(bundle: Bundle) -> int:
    """The pid that the shim has noted for init; 0 for none."""
    text = bundle.read(INIT_PID).strip()
    return int(text) if text.isdecimal() else 0


def _runc_options(packed: TypedAny | None) -> linux_runc_pb2.RuncOptions | None:
    """Options of a container's record (RT1-017).

    Raises:
        Unknown: of another type.
    """
    options = _unpack(packed)
    if options is None or isinstance(options, linux_runc_pb2.RuncOptions):
        return options
    raise Unknown("invalid runtime options format")


def _shim_cgroup(packed: TypedAny | None) -> str:
    """The control group for the shim that the options of a create name; empty for none.

    Raises:
        Unknown: options of another type (RT1-017).
    """
    options = _unpack(packed)
    if options is None:
        return ""
    if not isinstance(options, linux_runc_pb2.CreateOptions):
        raise Unknown(f"invalid task create option for {URI}")
    return options.shim_cgroup


def _unpack(packed: TypedAny | None) -> Message | None:
    if packed is None or not packed.type_url:
        return None
    try:
        return typeurl.unpack(PackedAny(type_url=packed.type_url, value=packed.value))
    except (typeurl.UnknownType, typeurl.MalformedValue) as error:
        raise Unknown(str(error)) from error
