"""Mutants of shims: each breaks the stub (``conformance.shim.stub``) in one place.

The places are the stub's own objects: ``shim.commands`` (what the binary does when it is run), ``shim.process`` (the
serving process), ``shim.socket``, ``shim.calls`` (the methods), ``shim.children`` (processes), ``shim.events`` (the
publisher) and ``shim.frames`` (a connection of the ttrpc server).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from conformance.mutants.engine import Method, change, find, mutants
from conformance.shim import processes
from refimpl.api import event_types_pb2 as events
from refimpl.api import status
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.contract.errors import FailedPrecondition, NotFound, ResourceExhausted, Unknown
from refimpl.contract.times import ZERO_TIME
from refimpl.ttrpc import frames, serving
from refimpl.ttrpc import server as ttrpc


def plant(id: str, at: str, target: Any) -> None:
    """Break a part of the stub, in place, if the mutant is about that part; called by the stub itself."""
    mutant = find(id)
    if mutant.at != at:
        return
    if target is not None:
        change(target, mutant.methods)
        return
    # A connection is made by the server for each client: the class is what has to change.
    body = {name: _bound(getattr(serving.Connection, name), method) for name, method in mutant.methods.items()}
    vars(ttrpc)["Connection"] = type("Connection", (serving.Connection,), body)


def _bound(inherited: Method, replacement: Method) -> Method:
    return lambda self, *args: replacement(partial(inherited, self), self, *args)


Table = Mapping[str, tuple[str, Mapping[str, Method]]]


def _nothing(_original: Method, *_args: Any) -> None:
    return None


# -- commands


def _falls_back(original: Method) -> None:
    try:
        original()
    except Exception:  # noqa: BLE001  # the mistake: whatever is missing is made up
        return


def _empty_config(original: Method) -> Any:
    try:
        return original()
    except Exception:  # noqa: BLE001  # as above
        return {}


def _open_socket(original: Method, path: str) -> Any:
    listener = original(path)
    Path(path).chmod(0o666)  # the mistake
    return listener


def _in_words(_original: Method, pid: int, code: int, at: int) -> None:
    sys.stdout.write(f"container with pid {pid} ended with {code} at {at}\n")


def _no(_original: Method, _path: str) -> bool:
    return False


def _yes(_original: Method, *_ids: int) -> bool:
    return True


def _own_id(original: Method, _annotations: Mapping[str, str]) -> str:
    return str(_owner(original).flags.id)


def _no_pid(_original: Method) -> int:
    return 0


_COMMANDS: Table = {
    "SHM-012": ("takes default for a namespace that is missing", {"check": _falls_back}),
    "SHM-013": ("serves an empty bundle", {"config": _empty_config}),
    "SHM-016": ("leaves the socket open to all", {"listen": _open_socket}),
    "SHM-017": ("replaces the shim that runs", {"live": _no}),
    "SHM-018": ("trips over a stale socket", {"clear": _nothing}),
    "SHM-020": ("starts one shim per container", {"group": _own_id}),
    "SHM-034": ("stays in the group of the start command", {"detach": _nothing}),
    "SHM-042": ("prints a line for people", {"tell": _in_words}),
    "SHM-043": ("answers without killing", {"end": _nothing}),
    "SHM-022": ("reads a record beside the bundle of the member", {"init_pid": _no_pid}),
}


def _owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # a partial that binds it


# -- the serving process


def _lazy_log(_original: Method) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _deaf_to_signals(_original: Method, _service: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _at_once(_original: Method, _publisher: Any) -> None:
    os._exit(0)


# -- calls


def _crash(*_args: Any) -> Any:
    os._exit(1)


def _unknown_instead(original: Method, id: str, exec_id: str) -> Any:
    try:
        return original(id, exec_id)
    except NotFound as error:
        raise Unknown(str(error)) from error


def _wants_namespace(original: Method, ctx: Any, request: Any) -> Any:
    if not ctx.namespace:
        raise FailedPrecondition("namespace is required")
    return original(ctx, request)


def _starters_pid(original: Method, ctx: Any, request: Any) -> Any:
    answer = original(ctx, request)
    answer.shim_pid = os.getppid()
    return answer


def _no_zero_time(original: Method, ctx: Any, request: Any) -> Any:
    answer = original(ctx, request)
    if answer.exited_at.ToNanoseconds() == ZERO_TIME:
        answer.ClearField("exited_at")
    return answer


def _bare_signal(original: Method, pid: int, code: int, at: int) -> None:
    original(pid, code - 128 if code > 128 else code, at)


def _now(original: Method, ctx: Any, request: Any) -> Any:
    service = _owner(original)
    if request.now:
        for process in list(service.processes.values()):
            os.killpg(process.pid, signal.SIGKILL)
        service.over.set()
    return original(ctx, request)


def _deaf(_original: Method, _ctx: Any, _request: Any) -> Any:
    time.sleep(3600)


def _removes_bundle(original: Method, process: Any) -> None:
    bundle = _owner(original).bundles[process.container].bundle
    original(process)
    (Path(bundle) / "config.json").unlink()


def _forgets_nothing(_original: Method, _process: Any) -> None:
    return None


def _first_container(original: Method, id: str, exec_id: str) -> Any:
    found = original(id, exec_id)
    return original(next(iter(_owner(original).bundles)), "") if found.is_init and found.started else found


def _exit_twice(original: Method, process: Any) -> None:
    original(process)
    original(process)


def _exit_first(original: Method, process: Any) -> None:
    service = _owner(original)
    deadline = time.monotonic() + 0.2
    # The lock is let go before the event is out: the reaper comes in between.
    service.lock.release()
    while not process.exited_at and time.monotonic() < deadline:
        time.sleep(0.005)
    service.lock.acquire()
    original(process)


def _exec_deleted(original: Method, process: Any) -> None:
    original(process)
    if not process.is_init:
        event = events.TaskDelete(container_id=process.container, id=process.id, pid=process.pid)
        _owner(original).publisher.publish("/tasks/delete", event)


def _execs_later(original: Method, init: Any) -> None:
    for process in _owner(original).execs(init.id):
        if process.pid and not process.exited_at:
            os.killpg(process.pid, signal.SIGKILL)


def _version_one(original: Method, ctx: Any, request: Any) -> Any:
    answer = original(ctx, request)
    answer.stats.type_url = "io.containerd.cgroups.v9.Metrics"
    return answer


def _zero_at_deadline(_original: Method, _ctx: Any, _request: Any) -> Any:
    return pb.WaitResponse(exit_status=0, exited_at=Timestamp())


def _always_running(_original: Method, process: Any) -> Any:
    return types.RUNNING if process.started else types.CREATED


_CALLS: Table = {
    "SHM-021": ("ends with its first container", {"shutdown": lambda original, *_args: _over(original)}),
    "SHM-047": ("says unknown for what was not created", {"process": _unknown_instead}),
    "SHM-048": ("wants the namespace with each call", {"start": _wants_namespace}),
    "SHM-051": ("tells the pid of its parent", {"connect": _starters_pid}),
    "SHM-060": ("leaves out the exit time before the exit", {"state": _no_zero_time}),
    "SHM-063": ("kills for a shutdown that is to be quick", {"shutdown": _now}),
    "SHM-064": ("removes the configuration with the container", {"forget": _removes_bundle}),
    "SHM-067": ("runs its own runtime whatever the options say", {"runtime": _nothing}),
    "SHM-068": ("answers with metrics of no version", {"stats": _version_one}),
    "SHM-071": ("tells the exit twice", {"ended": _exit_twice}),
    "SHM-072": ("tells of the deletion of an exec", {"forget": _exec_deleted}),
    "SHM-073": ("tells the exit of the init first", {"end_execs": _execs_later}),
    "SHM-062": ("acts on its first container", {"process": _first_container}),
}

_MORE_CALLS: Table = {
    "SHM-060": ("tells the bare number of a signal", {"on_exit": _bare_signal}),
    "SHM-063": ("does not answer a shutdown", {"shutdown": _deaf}),
    "SHM-064": ("remembers what was deleted", {"forget": _forgets_nothing}),
    "SHM-071": ("tells the exit before the start", {"started": _exit_first}),
    "SHM-050": ("answers zero for a wait", {"wait": _zero_at_deadline}),
    "SHM-047": ("dies of a container that is not there", {"container": _crash}),
}

_STATES: Table = {"SHM-060": ("says running for what was stopped or paused", {"status": _always_running})}


def _over(original: Method) -> Any:
    _owner(original).over.set()
    return Empty()


# -- events


def _gives_up(original: Method, request: Any) -> None:
    try:
        _owner(original).forward(request)
    except Exception:  # noqa: BLE001  # the mistake: one failure is the end of the event
        return


def _waits(original: Method, topic: str, event: Any) -> None:
    publisher = _owner(original)
    publisher.deliver(publisher.envelope(topic, event))


def _no_namespace(original: Method, topic: str, event: Any) -> Any:
    request = original(topic, event)
    request.envelope.ClearField("namespace")
    return request


def _one_connection(original: Method) -> Any:
    publisher = _owner(original)
    return publisher._client if publisher._client is not None else original()  # noqa: SLF001  # the mistake


# -- frames


def _little_endian(original: Method, _self: Any, frame: Any) -> None:
    class Reversed(frames.Frame):
        """A frame whose length is in the other byte order."""

        def encode(self) -> bytes:
            raw = super().encode()
            return raw[3::-1] + raw[4:]

    original(Reversed(frame.stream, frame.type, frame.payload, frame.flags))


def _hangs_up_on_even(original: Method, self: Any, frame: Any) -> None:
    if frame.stream % 2 == 0:
        self.close()
        return
    original(frame)


def _hangs_up(_original: Method, self: Any, *_args: Any) -> None:
    self.close()


def _hangs_up_on_size(original: Method, self: Any, stream: int, error: Exception) -> None:
    if isinstance(error, ResourceExhausted):
        self.close()
        return
    original(stream, error)


def _hangs_up_on_types(original: Method, self: Any, frame: Any) -> None:
    if frame.type not in (frames.REQUEST, frames.DATA):
        self.close()
        return
    original(frame)


def _with_status(original: Method, _self: Any, frame: Any) -> None:
    if frame.payload == b"":
        # A status that is there although it says nothing: field 1 with no bytes.
        original(frames.Frame(frame.stream, frame.type, b"\x0a\x00"))
        return
    original(frame)


def _one_by_one(_original: Method, self: Any, frame: Any) -> None:
    request = Request.FromString(frame.payload)
    method = self._lookup(request.service, request.method)
    self._unary(method, frame.stream, request)


def _any_case(original: Method, _self: Any, frame: Any) -> None:
    try:
        request = Request.FromString(frame.payload)
    except Exception:  # noqa: BLE001  # the original says what is wrong with it
        original(frame)
        return
    request.method = request.method.lstrip("/")[:1].upper() + request.method.lstrip("/")[1:]
    original(frames.Frame(frame.stream, frame.type, request.SerializeToString(), frame.flags))


def _unknown_method(original: Method, self: Any, stream: int, error: Exception) -> None:
    if status.code_of(error) != 12:
        original(stream, error)
        return
    answer = Response()
    answer.status.code, answer.status.message = 2, str(error)
    self._send(frames.Frame(stream, frames.RESPONSE, answer.SerializeToString()))


_FRAMES: Table = {
    "SHM-046": ("says unknown for an unknown method", {"_refuse": _unknown_method}),
    "SHM-097": ("writes the length in the other byte order", {"_answer": _little_endian}),
    "SHM-098": ("hangs up on an even stream", {"_take": _hangs_up_on_even}),
    "SHM-099": ("hangs up on a frame that is too long", {"_refuse": _hangs_up_on_size}),
    "SHM-100": ("hangs up on garbage", {"_refuse": _hangs_up}),
    "SHM-101": ("hangs up on a type it does not know", {"_take": _hangs_up_on_types}),
    "SHM-102": ("sends a status with each success", {"_answer": _with_status}),
    "SHM-103": ("handles one request at a time", {"_request": _one_by_one}),
    "SHM-105": ("matches methods in any case", {"_request": _any_case}),
}


def _ends_with_client(original: Method, _self: Any) -> None:
    original()
    # Not for the probe of a start command, which sends nothing.
    if getattr(_self, "_seen", False):
        os._exit(0)


def _seen(original: Method, self: Any, frame: Any) -> None:
    self._seen = True
    original(frame)


def _only_once(original: Method, pid: int) -> None:
    if not processes.alive(pid):
        sys.exit(1)
    original(pid)


mutants("shim.commands", _COMMANDS)
mutants("shim.commands", {"SHM-043": ("fails when there is nothing left to do", {"end": _only_once})})
mutants("shim.calls", _CALLS)
mutants("shim.calls", _MORE_CALLS)
mutants("shim.calls", _STATES)
mutants("shim.frames", _FRAMES)
mutants("shim.frames", {"SHM-081": ("ends with the connection", {"read": _ends_with_client, "_take": _seen})})
mutants("shim.socket", {"SHM-016": ("trusts the mode of its socket", {"welcome": _yes})})
mutants("shim.process", {"SHM-032": ("does not wait for a reader of its log", {"log": _lazy_log})})
mutants("shim.process", {"SHM-079": ("ends with events in its hands", {"end": _at_once})})
mutants("shim.process", {"SHM-090": ("ignores SIGTERM", {"signals": _deaf_to_signals})})
mutants("shim.children", {"SHM-036": ("leaves orphans to init", {"adopt": _nothing})})
mutants(
    "shim.events",
    {
        "SHM-074": ("leaves the namespace out", {"envelope": _no_namespace}),
        "SHM-075": ("waits until an event was taken", {"publish": _waits}),
        "SHM-076": ("drops an event that fails once", {"deliver": _gives_up}),
        "SHM-077": ("takes an error for a receipt", {"deliver": _gives_up}),
        "SHM-078": ("never dials again", {"connection": _one_connection}),
    },
)
