"""The fake host's processes: a thread each, that runs a small built-in program and meets the kernel at every call.

A program is a function of its process; all that it does to the world it does through the process (``read``, ``write``,
``sleep``, ``fork``, ``compute``), and there signals, the freezer and the limits take hold, as they do at the border of
the kernel. Between two such calls a program cannot be stopped, so none may compute long.

Life of a process: ``spawn`` makes it with a pid, ``start`` lets it run, its end is told to ``on_exit`` and then to
whoever waits for ``ended``. Time is the host's clock, also the processor time (``compute``): a busy loop waits for the
clock like a sleeper, so that a fake host takes no real processor.
Clauses TSK-036 to TSK-043, TSK-062 to TSK-064, TSK-067, TSK-070.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from refimpl.backends.fake.cgroups import Cgroup, CgroupTree
from refimpl.backends.fake.processes_signals import Action, SignalTable
from refimpl.backends.fake.processes_wake import Wake
from refimpl.contract.times import SECOND, ZERO_TIME, Clock, SystemClock

if TYPE_CHECKING:
    from refimpl.backends.fake.fs_view import View
    from refimpl.backends.fake.stdio_streams import Stream

log = logging.getLogger("refimpl.fake")

PROGRAM_MEMORY = 48 * 1024
"""Bytes that a program takes before it asks for any."""

START_COST = 1_000_000
"""Nanoseconds of processor time that starting a program takes."""

CALL_COST = 5_000
"""Nanoseconds of processor time that a system call takes."""

_BURST = SECOND // 50
"""Nanoseconds that a process may compute ahead of the clock."""

_BURST_BY_HAND = SECOND
"""The same where a clock moves by hand: a short program never waits for the hand."""

_NAMESPACE_END_SECONDS = 10.0

Program = Callable[["FakeProcess"], int]
"""What a process runs; answers with the exit status."""


class Killed(BaseException):
    """Unwinds a program whose process was killed. Nobody catches it but the process's own thread.

    Attributes:
        signal: by which it was.
    """

    def __init__(self, signal: int) -> None:
        self.signal = signal


class Exited(BaseException):
    """Unwinds a program that called exit(2) deep inside.

    Attributes:
        status: 0 to 255.
    """

    def __init__(self, status: int) -> None:
        self.status = status & 0xFF


class Watched(Protocol):
    """Something that a process can wait for."""

    def watch(self, wake: Wake) -> None:
        """Call ``wake`` whenever the state may have changed."""
        ...

    def unwatch(self, wake: Wake) -> None:
        """Take one ``watch`` back."""
        ...


@dataclass(eq=False)
class PidNamespace:
    """A pid namespace.

    Attributes:
        init: its first process, with whose end all others are killed; None for the host's own.
    """

    init: FakeProcess | None = None
    _last: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> int:
        """A pid inside the namespace."""
        with self._lock:
            self._last += 1
            return self._last


@dataclass(frozen=True)
class Image:
    """What a process is made of.

    Attributes:
        args: the command line.
        root: its root file system.
        streams: what it has open, by descriptor; the process owns one reference to each.
    """

    args: Sequence[str]
    root: View
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: Sequence[int] = ()
    hostname: str = "fake"
    streams: Mapping[int, Stream] = field(default_factory=dict)


class FakeProcess:
    """One process; made by ``ProcessTable.spawn``.

    Attributes:
        pid: on the host. ``inner_pid`` is that in its namespace.
        memory: bytes charged to its cgroup for it.
        signals: what it does on which signal.
        caught: signals that arrived and have a handler, oldest first; the program takes them out.
        exit_status, exited_at: of one that ended (128 + n after signal n; Unix nanoseconds).
        ended: set after everybody in ``on_exit`` was told.
    """

    def __init__(self, table: ProcessTable, program: Program, image: Image, parent: FakeProcess | None) -> None:
        self.table = table
        self.program = program
        self.image = image
        self.parent = parent
        self.pid = table.next_pid()
        self.inner_pid = 0
        self.namespace = table.namespace
        self.cgroup: Cgroup = table.cgroups.root
        self.args = list(image.args)
        self.env = dict(image.env)
        self.cwd = image.cwd
        self.umask = 0o022
        self.streams: dict[int, Stream] = dict(image.streams)
        self.children: list[FakeProcess] = []
        self.memory = 0
        self.signals = SignalTable()
        self.caught: deque[int] = deque()
        self.started = False
        self.exit_status = 0
        self.exited_at = ZERO_TIME
        self.ended = threading.Event()
        self.on_exit: list[Callable[[FakeProcess], None]] = []
        self.wake = Wake()
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, bool]] = deque()
        self._stopped = False
        self._over = False
        self._watchers: set[Wake] = set()
        self._credit = table.burst
        self._credited = table.clock.monotonic()

    # --- from outside

    @property
    def alive(self) -> bool:
        """Whether it has not ended, started or not."""
        return not self._over

    @property
    def is_init(self) -> bool:
        """Whether it is the first of a pid namespace of its own, which default actions spare."""
        return self.namespace.init is self

    def start(self) -> None:
        """Let it run."""
        self.started = True
        threading.Thread(target=self._run, name=f"process-{self.pid}", daemon=True).start()

    def signal(self, number: int, *, inside: bool = False) -> None:
        """Send it a signal; it acts on it at its next system call.

        Args:
            inside: whether the sender is in the same pid namespace, whose init it cannot kill.
        """
        with self._lock:
            if self._over or number == 0:
                return
            if number == signal.SIGCONT:
                self._stopped = False
            self._pending.append((number, inside))
        if not self.started:
            self._signal_before_start(number)
        self.wake()

    def _signal_before_start(self, number: int) -> None:
        """The OCI runtime's init waits in its place: a Go program, which exits with 2 where it would die (TSK-040)."""
        if number == signal.SIGKILL:
            self.end(128 + number)
        elif number in {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT}:
            self.end(2 if self.is_init else 128 + number)

    def watch(self, wake: Wake) -> None:
        """Call ``wake`` when it ends."""
        with self._lock:
            self._watchers.add(wake)

    def unwatch(self, wake: Wake) -> None:
        """Take one ``watch`` back."""
        with self._lock:
            self._watchers.discard(wake)

    def end(self, status: int) -> None:
        """End it, from its own thread or before it was started; only the first call counts."""
        with self._lock:
            if self._over:
                return
            self._over = True
            self.exit_status = status
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        self.table.cgroups.leave(self)
        self._end_namespace()
        self.exited_at = self.table.clock.now()
        self.table.forget(self)
        for callback in self.on_exit:
            callback(self)
        # First: whoever has waited for the end finds nothing open.
        self.wake.close()
        self.ended.set()
        with self._lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()
        if self.parent is not None and self.parent.alive:
            self.parent.signal(signal.SIGCHLD)

    def _end_namespace(self) -> None:
        if not self.is_init:
            return
        # Again: one that was told to end may have been making another at that moment.
        while rest := self.table.kill_all(lambda p: p.namespace is self.namespace and p is not self):
            # Their ends are told before that of their init (SHM-073).
            if not all(process.ended.wait(_NAMESPACE_END_SECONDS) for process in rest):
                return

    def _run(self) -> None:
        status = 0
        try:
            self.compute(START_COST)
            self.allocate(PROGRAM_MEMORY)
            status = self.program(self) & 0xFF
        except Exited as exit_:
            status = exit_.status
        except Killed as killed:
            status = 128 + killed.signal
        except Exception:
            # A mistake in a built-in program must not look like a success, nor leave the task running for ever.
            log.exception("fake program %s failed", self.args[:1])
            status = 128 + signal.SIGSEGV
        self.end(status)

    # --- system calls, from its own thread

    def checkpoint(self) -> None:
        """Where the kernel takes hold: act on signals, stand still while frozen or stopped.

        Raises:
            Killed: a signal ended it.
        """
        while True:
            self.wake.clear()
            if not self.cgroup.is_frozen:
                self._deliver()
                if not self._stopped:
                    return
            self.wake.wait()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    return
                number, inside = self._pending.popleft()
            action = self.signals.action(number, init=self.is_init, inside=inside)
            if action is Action.KILL:
                raise Killed(number)
            if action is Action.STOP:
                self._stopped = True
            elif action is Action.CATCH:
                self.caught.append(number)

    def wait_until(self, ready: Callable[[], bool], *watched: Watched, seconds: float | None = None) -> bool:
        """Wait until ``ready``, which changes with one of ``watched``, at most ``seconds`` of the host's clock.

        Returns:
            Whether it is ready; False also when a signal was caught meanwhile (EINTR).
        """
        clock = self.table.clock
        end = None if seconds is None else clock.monotonic() + seconds
        caught = len(self.caught)
        for source in watched:
            source.watch(self.wake)
        try:
            while True:
                self.checkpoint()
                if ready():
                    return True
                if len(self.caught) > caught:
                    return False
                if end is None:
                    self.wake.wait()
                    continue
                left = end - clock.monotonic()
                if left <= 0:
                    return False
                clock.wait(self.wake.event, left)
        finally:
            for source in watched:
                source.unwatch(self.wake)

    def sleep(self, seconds: float) -> None:
        """Wait for the host's clock; a signal that is caught does not shorten it."""
        end = self.table.clock.monotonic() + seconds
        while (left := end - self.table.clock.monotonic()) > 0:
            self.wait_until(lambda: False, seconds=left)

    def compute(self, nanoseconds: int, *, system: bool = False) -> None:
        """Use processor time; wait for the clock where that is more than the quota or one processor gives."""
        self.checkpoint()
        self.table.cgroups.charge_cpu(self, nanoseconds, system=system)
        self._credit -= nanoseconds
        while self._credit < 0:
            self._earn()

    def burn(self, seconds: float) -> None:
        """Compute for so much processor time, with nothing ahead of the clock."""
        self._credit, self._credited = 0, self.table.clock.monotonic()
        left = round(seconds * SECOND)
        while left > 0:
            share = self.cgroup.cpu_share
            before = self.table.clock.monotonic()
            self.wait_until(lambda: False, seconds=min(left / share / SECOND, 0.02))
            elapsed = round((self.table.clock.monotonic() - before) * SECOND)
            got = min(left, round(elapsed * share))
            left -= got
            self.table.cgroups.charge_cpu(self, got)
            self.table.cgroups.count_periods(self.cgroup, elapsed, round(elapsed * (1 - share)))
        self._credited = self.table.clock.monotonic()

    def _earn(self) -> None:
        share = self.cgroup.cpu_share
        now = self.table.clock.monotonic()
        if now == self._credited:
            self.wait_until(lambda: False, seconds=max(-self._credit / share / SECOND, 0.001))
            now = self.table.clock.monotonic()
        elapsed = round((now - self._credited) * SECOND)
        self._credited = now
        self._credit = min(self.table.burst, self._credit + round(elapsed * share))
        if share < 1:
            self.table.cgroups.count_periods(self.cgroup, elapsed, round(elapsed * (1 - share)))

    def allocate(self, size: int) -> None:
        """Take ``size`` bytes more memory, or give some back.

        Raises:
            Killed: there is not enough, and this process had the most.
        """
        self.checkpoint()
        groups = self.table.cgroups
        while (victim := groups.charge_memory(self, size)) is not None:
            full = groups.full(self, size)
            if full is not None and full.oom_kill_disabled:
                self.wait_until(lambda: groups.full(self, size) is None, seconds=0.01)
                continue
            for callback in groups.count_oom(full) if full is not None else ():
                callback()
            if victim is self:
                raise Killed(signal.SIGKILL)
            victim.signal(signal.SIGKILL)
            victim.ended.wait(_NAMESPACE_END_SECONDS)

    def fork(self, program: Program, args: Sequence[str], streams: Mapping[int, Stream] | None = None) -> FakeProcess:
        """Make and start a child with the same surroundings.

        Args:
            streams: what it has open; by default what this one has. References are taken here.

        Raises:
            OSError: EAGAIN, too many processes in its cgroup.
        """
        self.compute(CALL_COST, system=True)
        mine = self.streams if streams is None else streams
        image = Image(
            args=args,
            root=self.image.root,
            env=self.env,
            cwd=self.cwd,
            uid=self.image.uid,
            gid=self.image.gid,
            groups=self.image.groups,
            hostname=self.image.hostname,
            streams={number: stream.dup() for number, stream in mine.items()},
        )
        try:
            child = self.table.spawn(program, image, self.cgroup, namespace=self.namespace, parent=self)
        except OSError:
            for stream in image.streams.values():
                stream.close()
            raise
        child.signals = self.signals.inherited()
        child.umask = self.umask
        self.children.append(child)
        child.start()
        return child

    def wait_for(self, child: FakeProcess) -> int:
        """Wait for a child's end, whatever signals are caught meanwhile; answers with its exit status."""
        while not self.wait_until(child.ended.is_set, child):
            pass
        if child in self.children:
            self.children.remove(child)
        return child.exit_status

    def write(self, number: int, data: bytes) -> None:
        """Write all of ``data``.

        Raises:
            OSError: EBADF, or as the stream gives.
            Killed: nobody reads the other end, and SIGPIPE is not ignored.
        """
        self.compute(CALL_COST, system=True)
        self.stream(number).write(self, data)

    def read(self, number: int, size: int = 65536) -> bytes:
        """At most ``size`` bytes, at least one; none is the end.

        Raises:
            OSError: EBADF, or as the stream gives.
        """
        self.compute(CALL_COST, system=True)
        return self.stream(number).read(self, size)

    def stream(self, number: int) -> Stream:
        """What is open under a descriptor.

        Raises:
            OSError: EBADF.
        """
        found = self.streams.get(number)
        if found is None:
            raise OSError(9, "Bad file descriptor")
        return found


class ProcessTable:
    """All processes of a host.

    Args:
        first_pid: of the first process: as if some were running already.

    Attributes:
        burst: nanoseconds that a process may compute ahead of the clock.
    """

    def __init__(self, clock: Clock, cgroups: CgroupTree, first_pid: int = 1000) -> None:
        self.clock = clock
        self.cgroups = cgroups
        self.burst = _BURST if isinstance(clock, SystemClock) else _BURST_BY_HAND
        self.namespace = PidNamespace()
        self._lock = threading.Lock()
        self._by_pid: dict[int, FakeProcess] = {}
        self._next = first_pid

    def next_pid(self) -> int:
        """A pid that was never given."""
        with self._lock:
            self._next += 1
            return self._next

    def spawn(
        self,
        program: Program,
        image: Image,
        cgroup: Cgroup,
        *,
        namespace: PidNamespace | None = None,
        parent: FakeProcess | None = None,
    ) -> FakeProcess:
        """Make a process that does not run yet.

        Args:
            namespace: its pid namespace; the first process put into one with no init is its init.

        Raises:
            OSError: EAGAIN, too many processes in its cgroup.
        """
        process = FakeProcess(self, program, image, parent)
        process.cgroup = cgroup
        process.namespace = namespace or self.namespace
        if process.namespace is not self.namespace and process.namespace.init is None:
            process.namespace.init = process
        process.inner_pid = process.pid if process.namespace is self.namespace else process.namespace.next()
        self.cgroups.enter(cgroup, process)
        with self._lock:
            self._by_pid[process.pid] = process
        return process

    def get(self, pid: int) -> FakeProcess | None:
        """A living process by its pid on the host."""
        with self._lock:
            return self._by_pid.get(pid)

    def living(self) -> list[FakeProcess]:
        """All living processes, oldest first."""
        with self._lock:
            return list(self._by_pid.values())

    def kill_all(self, which: Callable[[FakeProcess], bool] = lambda _: True) -> list[FakeProcess]:
        """Send SIGKILL to the processes that ``which`` picks, by default all; answers with them."""
        victims: Iterable[FakeProcess] = [process for process in self.living() if which(process)]
        for process in victims:
            process.signal(signal.SIGKILL)
        return list(victims)

    def forget(self, process: FakeProcess) -> None:
        """Drop one that ended; for the process itself."""
        with self._lock:
            self._by_pid.pop(process.pid, None)
