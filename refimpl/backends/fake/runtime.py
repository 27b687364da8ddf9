"""The fake runtime: tasks whose processes are built-in programs on the fake host.

One implementation for both runtime plugins (``runtime_v1`` and ``runtime_v2``), which differ by their ``Dialect``.
Tasks belong to the host, as shims outlive a daemon: a runtime made again on the same host finds them (TSK-088).
Clauses TSK-004 to TSK-015, SHM-001 to SHM-003, RT1-017, RT1-018, RT1-029. Twins: refimpl.backends.real.
"""

from __future__ import annotations

import builtins
import threading
from typing import TYPE_CHECKING, Any

from google.protobuf.any_pb2 import Any as PackedAny

from refimpl.api import linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.backends.fake import runtime_json
from refimpl.backends.fake.runtime_bundle import Bundle, BundlePlaces
from refimpl.backends.fake.runtime_events import ExchangeHolder, teller
from refimpl.backends.fake.runtime_oci import OCIContainer, OCIFailure
from refimpl.backends.fake.runtime_process import Part, refuse
from refimpl.backends.fake.runtime_shims import resolve
from refimpl.backends.fake.runtime_task import FakeTask, FirstTask
from refimpl.backends.fake.stdio import open_stdio
from refimpl.contract.errors import AlreadyExists, NotFound, Unknown
from refimpl.contract.runtimes import CreateOptions, Exit, Task

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from refimpl.backends.fake.host import FakeHost
    from refimpl.backends.fake.runtime_dialect import Dialect
    from refimpl.contract.context import CallContext
    from refimpl.contract.events import EventExchange
    from refimpl.contract.types import TypedAny

RUNC = frozenset({"runc", "/usr/bin/runc", "/usr/sbin/runc", "/usr/local/sbin/runc"})
"""OCI runtimes that are installed on the fake host."""


class Shims:
    """The tasks of one runtime, kept by the host.

    Attributes:
        tasks: by namespace and id.
        exchange: where their events go now.
    """

    def __init__(self, exchange: EventExchange) -> None:
        self.lock = threading.Lock()
        self.tasks: dict[tuple[str, str], FakeTask] = {}
        self.creating: set[tuple[str, str]] = set()
        self.exchange = ExchangeHolder(exchange)


class FakeRuntime:
    """A ``contract.runtimes.Runtime``.

    Args:
        state, root: the plugin's directories, on the fake disk.
        oci_runtime: the one where options name none.
    """

    def __init__(
        self,
        host: FakeHost,
        exchange: EventExchange,
        dialect: Dialect,
        state: str,
        root: str,
        oci_runtime: str = "runc",
    ) -> None:
        self._host = host
        self._oci = oci_runtime
        self._dialect = dialect
        self._places = BundlePlaces(state, root, dialect.first)
        shims = host.databases.setdefault(f"{state}/tasks", Shims(exchange))
        assert isinstance(shims, Shims), "the plugin's directory is its own"
        shims.exchange.now = exchange
        self._shims = shims

    @property
    def id(self) -> str:
        return self._dialect.uri

    def create(self, ctx: CallContext, id: str, options: CreateOptions) -> Task:
        key = (ctx.require_namespace(), id)
        with self._shims.lock:
            if key in self._shims.tasks or key in self._shims.creating:
                raise AlreadyExists(f"task {id}")
            self._shims.creating.add(key)
        try:
            task = self._create(ctx, key, options)
            with self._shims.lock:
                self._shims.tasks[key] = task
        finally:
            with self._shims.lock:
                self._shims.creating.discard(key)
        return task

    def _create(self, ctx: CallContext, key: tuple[str, str], options: CreateOptions) -> FakeTask:
        dialect = self._dialect
        oci_runtime = self._oci_runtime(options)
        bundle = Bundle(self._host, self._places, *key)
        try:
            spec = runtime_json.loads_object(options.spec.value, "specs.Spec")
        except ValueError as error:
            raise Unknown(f"{dialect.shim_failed}{error}") from error
        try:
            bundle.make(options.spec.value, spec)
        except Unknown as error:
            raise Unknown(f"{dialect.shim_failed}{error}") from error
        try:
            if not dialect.first:
                bundle.record("shim-binary-path", self._shim(options))
            return self._create_in(ctx, key, options, spec, bundle, oci_runtime)
        except BaseException:
            bundle.remove()
            raise

    def _shim(self, options: CreateOptions) -> str:
        try:
            return resolve(options.runtime_path or options.runtime)
        except ValueError as error:
            raise Unknown(f"{self._dialect.shim_failed}failed to resolve runtime path: {error}") from error

    def _create_in(
        self,
        ctx: CallContext,
        key: tuple[str, str],
        options: CreateOptions,
        spec: dict[str, Any],
        bundle: Bundle,
        oci_runtime: str,
    ) -> FakeTask:
        dialect, host = self._dialect, self._host
        if dialect.first and host.cgroups.version == 2:
            raise refuse("cgroups: cgroup mountpoint does not exist")
        try:
            bundle.mount(options.rootfs)
        except Unknown as error:
            raise refuse(f"{dialect.create_failed}{error.message}") from error
        part = Part(key[1], options.io)
        container = OCIContainer(host, bundle.path, spec, f"/{key[0]}/{key[1]}")
        try:
            if oci_runtime not in RUNC:
                raise refuse(_no_runtime(bundle, oci_runtime))
            part.stdio = open_stdio(ctx, options.io, key[1], key[0])
            if not options.checkpoint:
                part.process = container.create({}, terminal=options.io.terminal)
                part.process.streams = part.stdio.streams()
        except OCIFailure as failure:
            part.stdio.close()
            raise refuse(
                f"{dialect.create_failed}OCI runtime create failed: runc create failed: {failure}"
            ) from failure
        except Unknown as error:
            raise refuse(f"{dialect.create_failed}{error.message}") from error
        telling = teller(self._shims.exchange, *key)
        restoring = bool(options.checkpoint)
        make = FirstTask if dialect.first else FakeTask
        task = make(host, key[0], part, container, bundle, dialect, telling, restoring=restoring)
        if part.process is not None:
            bundle.record("init.pid", str(part.process.pid))
        telling.created(bundle.path, options.rootfs, options.io, options.checkpoint, task.pid)
        return task

    def _oci_runtime(self, options: CreateOptions) -> str:
        """Which OCI runtime the options name.

        Raises:
            Unknown: options of another type.
        """
        if self._dialect.first:
            chosen = _unpack(options.runtime_options)
            if chosen is not None and not isinstance(chosen, linux_runc_pb2.RuncOptions):
                raise Unknown("invalid runtime options format")
            created = _unpack(options.task_options)
            if created is not None and not isinstance(created, linux_runc_pb2.CreateOptions):
                raise Unknown(f"invalid task create option for {self._dialect.uri}")
            return (chosen.runtime if chosen is not None else "") or self._oci
        chosen = _unpack(options.task_options or options.runtime_options)
        if chosen is not None and not isinstance(chosen, runc_v1_pb2.Options):
            raise Unknown(f"invalid task create option for {options.runtime}")
        return (chosen.binary_name if chosen is not None else "") or self._oci

    def get(self, ctx: CallContext, id: str) -> Task:
        with self._shims.lock:
            task = self._shims.tasks.get((ctx.require_namespace(), id))
        if task is None:
            raise NotFound(f"task {id} not found", bare=True)
        return task

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> builtins.list[Task]:
        with self._shims.lock:
            if everywhere:
                return [*self._shims.tasks.values()]
            namespace = ctx.require_namespace()
            return [task for (space, _), task in self._shims.tasks.items() if space == namespace]

    def delete(self, ctx: CallContext, id: str) -> Exit:
        task = self.get(ctx, id)
        exit_ = task.delete(ctx)
        with self._shims.lock:
            self._shims.tasks.pop((ctx.namespace, id), None)
        return exit_


def _unpack(packed: TypedAny | None) -> Message | None:
    """Options, decoded.

    Raises:
        Unknown: of a type that is not known.
    """
    if packed is None or not packed.type_url:
        return None
    try:
        return typeurl.unpack(PackedAny(type_url=packed.type_url, value=packed.value))
    except (typeurl.UnknownType, typeurl.MalformedValue) as error:
        raise Unknown(str(error)) from error


def _no_runtime(bundle: Bundle, name: str) -> str:
    log = f"open {bundle.path}/log.json: no such file or directory"
    found = f'exec: "{name}": executable file not found in $PATH'
    return f"OCI runtime create failed: unable to retrieve OCI runtime error ({log}): {found}"
