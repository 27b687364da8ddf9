"""The serving process: it lives as long as one of its containers does (SHM-016, SHM-032, SHM-063, SHM-079, SHM-090)."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from refimpl.contract.errors import ResourceExhausted
from refimpl.linux.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_NAME, prctl
from refimpl.shim.children import Children
from refimpl.shim.creating import Maker
from refimpl.shim.flags import Flags
from refimpl.shim.log import log_stacks, open_log
from refimpl.shim.loop import Loop
from refimpl.shim.main import ShimError
from refimpl.shim.publisher import Publisher
from refimpl.shim.service import NAME, TaskService
from refimpl.ttrpc.server import Server

log = logging.getLogger("refimpl.shim")

LISTENER = 3
"""The descriptor by which ``start`` hands over the socket."""

FLUSH_SECONDS = 20.0
"""How long the last events may take to be delivered."""

HASTY_SECONDS = 1.0
"""The same when a signal ends the shim: whoever sent it does not wait for a daemon that is away."""

ANSWER_SECONDS = 1.0
"""How long the last answers may take to go out."""

LONGEST = 106
"""Most bytes of a socket's path: what the kernel takes, less the final NUL and one (SHM-019)."""

_CREDENTIALS = struct.Struct("3i")


class CallThreads:
    """A thread for each call: most shims answer a few calls in their life, and otherwise hold one ``Wait``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0

    def submit(self, fn: Callable[..., object], /, *args: Any) -> None:
        """See ``refimpl.ttrpc.methods.Threads``.

        Raises:
            ResourceExhausted: there are as many threads as the host allows; the shim and its containers go on.
        """
        with self._changed:
            self._running += 1
        try:
            threading.Thread(target=self._run, args=(fn, args), name="call", daemon=True).start()
        except RuntimeError as error:
            self._ended()
            raise ResourceExhausted(f"no thread for the call: {error}") from error

    def _run(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            fn(*args)
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no call runs; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)


def serve(flags: Flags) -> int:
    """Serve until there is nothing more to serve; answers with the exit status.

    Raises:
        ShimError: there is no socket to serve on.
    """
    listener, path = _listener(flags.socket)
    # Before any request is read: who speaks to a shim whose log nobody reads waits.
    open_log("log", debug=flags.debug)
    prctl(PR_SET_NAME, b"containerd-shim")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    loop, children = Loop(), Children()
    loop.on_signal(signal.SIGCHLD, children.reap)
    loop.on_signal(signal.SIGUSR1, log_stacks)
    publisher = Publisher(
        flags.namespace, os.environ.get("TTRPC_ADDRESS", ""), children, (flags.publish_binary, flags.address)
    )
    ending = threading.Event()
    loop.on_signal(signal.SIGTERM, ending.set)
    loop.on_signal(signal.SIGINT, ending.set)
    maker = Maker(loop, children, publisher, flags.namespace)
    service = TaskService(maker, ending.set)
    threads = CallThreads()
    server = Server(listener, threads, admit=_same_user)
    server.add_service(NAME, service.methods())
    own = _inode(path)
    server.start()
    gc.freeze()
    gc.enable()
    log.info("serving", extra={"fields": {"namespace": flags.namespace, "pid": os.getpid(), "socket": path}})

    def end() -> None:
        ending.wait()
        # What was asked for is answered, what has happened is told, and only then is it over.
        threads.wait_idle(ANSWER_SECONDS)
        if own and _inode(path) == own:
            with contextlib.suppress(OSError):
                os.unlink(path)
        publisher.flush(FLUSH_SECONDS if service.ending else HASTY_SECONDS)
        server.stop()
        loop.stop()

    # Beside the loop, which goes on meanwhile: answers and events may wait for commands that it reaps.
    threading.Thread(target=end, name="end", daemon=True).start()
    loop.run()
    return 0


def _listener(path: str) -> tuple[socket.socket, str]:
    if not path:
        try:
            listener = socket.socket(fileno=LISTENER)
            name = listener.getsockname()
        except OSError as error:
            raise ShimError(f"no socket to serve on as descriptor {LISTENER}: {error.strerror}") from error
        listener.set_inheritable(False)
        return listener, name
    if len(os.fsencode(path)) > LONGEST:
        raise ShimError(f"{path}: unix socket path too long (> {LONGEST})")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener, path


def _inode(path: str) -> int:
    """Which file is at a path: another shim may have put its own there. 0 for none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _same_user(connection: socket.socket) -> bool:
    """Whether the other side is this process's own user: nobody else may ask anything, whatever the socket's mode."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(data)
    return bool((uid, gid) == (os.geteuid(), os.getegid()))
