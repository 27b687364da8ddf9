"""Shims, what daemon and shim say to each other: calls, errors, the end of either (SHM-049, 052 to 059, 082 to 091)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
import time

import pytest

from conformance import clause, patience
from conformance.shim import processes
from conformance.shim.waiting import until
from conformance.suites._events import listen, opened
from conformance.suites._shim_daemon import (
    DAEMON,
    OWN,
    own_world,
    soon,
    world,
)
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.types import TypedAny

UNCHANGED = (InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Unavailable, Unimplemented)
CHANGED = (Unknown, PermissionDenied, ResourceExhausted, Internal)
"""Kinds that 1.6 makes UNKNOWN; 2.x passes them on."""


def failing(kind):
    """An answer that is an error."""

    def answer(_request):
        raise kind("on purpose")

    return answer


def since(shim, count):
    """The methods that were called after the first ``count``."""
    return shim.methods()[count:]


def told(heard):
    """Topic, pid and status of exits and deletions."""
    return [
        (one.topic, opened(one).pid, opened(one).exit_status)
        for one in heard
        if one.topic in ("/tasks/exit", "/tasks/delete")
    ]


@clause("SHM-049", needs=DAEMON)
def test_the_callers_time_goes_to_the_shim(world):
    """Rejects: a limit in absolute time; a shutdown that may take for ever."""
    shim = world.shim()
    id = world.container(shim)
    world.create(id, seconds=60.0)
    world.delete(id)

    left = {call.method: call.left for call in shim.calls}
    # The clocks of two processes; and the start command has had its part of the time.
    assert 20.0 < left["Create"] <= 61.0
    assert 0.0 < left["Shutdown"] <= 3.0


@clause("SHM-052", needs=DAEMON)
def test_a_create_asks_for_the_pid_by_connect(world):
    """Rejects: the pid of Create's answer; paths or options that do not arrive."""
    shim = world.shim()
    shim.pid = 4000778
    shim.answers["Create"] = lambda _request: pb.CreateTaskResponse(pid=4000777)
    id = world.container(shim, options=TypedAny("containerd.runc.v1.Options", b"\x32\x04runc"))

    assert world.create(id, io=IO(stdin="/in", stdout="/out", stderr="/err", terminal=False)) == 4000778

    assert shim.methods() == ["Create", "Connect"]
    request = shim.calls[0].request
    assert (request.id, request.bundle) == (id, str(world.bundle(id)))
    assert (request.stdin, request.stdout, request.stderr, request.terminal) == ("/in", "/out", "/err", False)
    assert (request.options.type_url, request.options.value) == ("containerd.runc.v1.Options", b"\x32\x04runc")


@clause("SHM-053", needs=DAEMON)
def test_a_start_asks_for_the_pid_by_state(world):
    """Rejects: the pid of Start's answer."""
    shim = world.shim()
    id = world.made(shim)
    shim.answers["Start"] = lambda _request: pb.StartResponse(pid=4000779)
    shim.pid = 4000780
    before = len(shim.calls)

    assert world.tasks.start(soon(world.ctx), id) == 4000780

    assert [one for one in since(shim, before) if one in ("Start", "State")][-2:] == ["Start", "State"]


@clause("SHM-053", needs=DAEMON)
def test_an_exec_that_the_shim_does_not_know_is_not_found(world):
    """Rejects: a start for an exec that nobody added."""
    shim = world.shim()
    id = world.started(shim)

    def state(request):
        if request.exec_id:
            raise NotFound("no such exec")
        return shim.told(request)

    shim.answers["State"] = state
    before = len(shim.calls)

    with pytest.raises(NotFound):
        world.tasks.start(soon(world.ctx), id, "nope")
    assert "Start" not in since(shim, before)


@clause("SHM-054", needs=DAEMON)
def test_a_shutdown_that_fails_does_not_fail_the_delete(world):
    """Rejects: a task that stays in the list for the sake of a process that is gone."""
    shim = world.shim()
    shim.answers["Shutdown"] = failing(Unknown)
    id = world.started(shim)

    assert world.delete(id).status == 5

    assert world.forgotten(id)
    assert until(lambda: not world.bundle(id).exists())


@clause("SHM-055", needs=DAEMON)
def test_a_delete_that_is_refused_keeps_the_task(world):
    """Rejects: a task that is forgotten on any error."""
    shim = world.shim()
    shim.answers["Delete"] = failing(Unknown)
    id = world.started(shim)

    with pytest.raises(Unknown):
        world.delete(id)

    assert world.there(id)
    assert world.bundle(id).exists()
    assert "Shutdown" not in shim.methods()
    del shim.answers["Delete"]
    assert world.delete(id).status == 5


@clause("SHM-056", needs=DAEMON)
def test_a_delete_of_what_the_shim_does_not_know_cleans_up(world, listen):
    """Rejects: a task that can never be deleted."""
    shim = world.shim()
    shim.answers["Delete"] = failing(NotFound)
    id = world.started(shim)
    ear = listen('topic~="/tasks/"')

    with pytest.raises(NotFound):
        world.delete(id)

    assert told(ear.until("/tasks/delete")) == [("/tasks/exit", 4242, 42), ("/tasks/delete", 4242, 42)]
    assert world.forgotten(id)
    assert until(lambda: not world.bundle(id).exists())


@clause("SHM-057", needs=DAEMON)
@pytest.mark.parametrize("kind", UNCHANGED)
def test_a_create_that_is_refused_takes_the_shim_down(world, kind):
    """Rejects: a shim that is left behind; a kind of error that is lost."""
    shim = world.shim()
    shim.answers["Create"] = failing(kind)
    id = world.container(shim)

    with pytest.raises(kind, match="failed to create shim task"):
        world.create(id)

    assert shim.methods()[:1] == ["Create"]
    assert [name for name in shim.methods() if name in ("Delete", "Shutdown")] == ["Delete", "Shutdown"]
    assert not world.there(id)
    assert until(lambda: not world.bundle(id).exists())


@clause("SHM-058", "SHM-059", needs=DAEMON)
@pytest.mark.parametrize("kind", UNCHANGED)
def test_the_kind_of_a_shims_error_reaches_the_caller(world, kind):
    """Rejects: UNKNOWN for everything; a task that is dropped because of an error."""
    shim = world.shim()
    id = world.started(shim)
    shim.answers["Pause"] = failing(kind)

    with pytest.raises(kind, match="on purpose"):
        world.tasks.pause(soon(world.ctx), id)

    assert world.tasks.get(soon(world.ctx), id).status is Status.RUNNING


@clause("SHM-058", needs=DAEMON)
@pytest.mark.parametrize("kind", CHANGED)
def test_other_kinds_become_unknown_or_stay(world, kind):
    """Rejects: another kind for it, such as NotFound, which has a meaning."""
    shim = world.shim()
    id = world.started(shim)
    shim.answers["Pause"] = failing(kind)

    with pytest.raises((Unknown, kind), match="on purpose"):
        world.tasks.pause(soon(world.ctx), id)


@pytest.fixture
def restarted(own_world):
    """A daemon of the check's own, and a function that makes it away and back, with something done in between."""
    world = own_world()

    def restart(between=lambda: None, *, seconds=0.0):
        # The protocol of subjects has no word for what happens between stop and start.
        process = world.instance._process  # noqa: SLF001
        world.instance.disconnect()
        process.stop()
        between()
        time.sleep(seconds)
        world.instance._start()  # noqa: SLF001

    return world, restart


def with_address(shim):
    """Have the start command leave the address in the bundle, as shims of 1.6 must."""
    shim.plan("start", out=f"unix://{shim.path}".encode(), address_file=f"unix://{shim.path}")
    return shim


@clause("SHM-082", needs=OWN)
def test_tasks_are_there_again_after_a_restart(restarted):
    """Rejects: shims that are ended with the daemon; states that are made up."""
    world, restart = restarted
    created, running = with_address(world.shim()), with_address(world.shim())
    first, second = world.made(created), world.started(running)

    restart()

    states = {one.id: one.status for one in world.tasks.list(soon(world.ctx))}
    assert states == {first: Status.CREATED, second: Status.RUNNING}
    assert world.tasks.start(soon(world.ctx), first) == created.pid
    assert world.delete(second).status == 5


@clause("SHM-083", needs=OWN)
def test_an_exit_that_nobody_saw_is_told_after_the_restart(restarted):
    """Rejects: 137 or 255 for whatever was missed."""
    world, restart = restarted
    shim = with_address(world.shim())
    id = world.started(shim)
    at = time.time_ns()

    def ended(request):
        answer = pb.StateResponse(id=request.id, pid=shim.pid, status=types.STOPPED, exit_status=9)
        answer.exited_at.FromNanoseconds(at)
        return answer

    def wait(_request):
        answer = pb.WaitResponse(exit_status=9)
        answer.exited_at.FromNanoseconds(at)
        return answer

    def end():
        shim.answers.update(State=ended, Wait=wait)

    restart(end)
    if world.instance.identity().version.lstrip("v").startswith("2."):
        pytest.skip("2.x forgets a task without processes when it restarts")

    assert world.tasks.get(soon(world.ctx), id).status is Status.STOPPED
    found = world.tasks.wait(soon(world.ctx), id)
    assert (found.status, found.exited_at) == (9, at)


@clause("SHM-084", needs=OWN)
def test_a_shim_without_its_address_on_disk_is_lost(restarted):
    """Rejects: a task that nobody can reach any more."""
    world, restart = restarted
    lost, kept = world.shim(), with_address(world.shim())
    first, second = world.started(lost), world.started(kept)

    restart()
    if world.instance.identity().version.lstrip("v").startswith("2."):
        pytest.skip("2.x keeps the address itself")

    assert not world.there(first)
    assert until(lambda: lost.actions()[-1] == "delete")
    assert world.there(second)
    assert kept.actions() == ["start"]


@clause("SHM-085", needs=OWN)
def test_a_shim_that_does_not_answer_delays_a_start_and_does_not_stop_it(restarted):
    """Rejects: a daemon that waits for ever."""
    world, restart = restarted
    shim = with_address(world.shim())
    id = world.started(shim)
    free = threading.Event()

    def silent(_request):
        free.wait(3 * patience.SECONDS)
        return pb.ConnectResponse()

    try:
        begun = time.monotonic()
        restart(lambda: shim.answers.update(Connect=silent))
        # 1.6 gives it 5 s.
        assert time.monotonic() - begun < 2 * patience.SECONDS
        assert not world.there(id)
        assert until(lambda: shim.actions()[-1] == "delete")
        assert until(lambda: not world.bundle(id).exists())
    finally:
        free.set()


@clause("SHM-086", needs=OWN)
def test_a_shim_that_died_meanwhile_is_cleaned(restarted):
    """Rejects: a task of a dead shim; a bundle that stays."""
    world, restart = restarted
    shim = with_address(world.shim())
    id = world.started(shim)

    restart(shim.cut)

    assert not world.there(id)
    assert shim.actions() == ["start", "delete"]
    assert until(lambda: not world.bundle(id).exists() and not world.work(id).exists())


@clause("SHM-087", needs=OWN)
def test_leftovers_are_removed_when_a_daemon_starts(restarted):
    """Rejects: a daemon that does not start because of them."""
    world, restart = restarted
    world.delete(world.made(world.shim()))
    state, work = world.bundle("x").parent, world.work("x").parent

    def litter():
        (state / "empty").mkdir(parents=True)
        (state / "nobin" / "rootfs").mkdir(parents=True)
        (state / ".hidden").mkdir()
        (work / "orphan").mkdir(parents=True)

    restart(litter)

    left = {entry.name for folder in (state, work) if folder.exists() for entry in folder.iterdir()}
    assert left == {".hidden"}


@clause("SHM-088", needs=DAEMON)
def test_the_death_of_a_shim_is_noticed_at_once(world, listen):
    """Rejects: a task without a shim; a waiter who waits for ever."""
    shim = world.shim()
    id = world.started(shim)
    free = threading.Event()
    waiting = threading.Event()

    def wait(_request):
        waiting.set()
        free.wait(3 * patience.SECONDS)
        return pb.WaitResponse()

    shim.answers["Wait"] = wait
    ear = listen('topic~="/tasks/"')
    outcome: list[object] = []

    def waiter():
        try:
            outcome.append(world.tasks.wait(soon(world.ctx), id))
        except ContainerdError as error:
            outcome.append(error)

    thread = threading.Thread(target=waiter)
    thread.start()
    try:
        assert waiting.wait(patience.SECONDS)
        shim.cut()
        assert told(ear.until("/tasks/delete")) == [("/tasks/exit", 4242, 42), ("/tasks/delete", 4242, 42)]
        assert world.forgotten(id)
        thread.join(patience.SECONDS)
        assert isinstance(outcome[0], Unknown), outcome
        assert until(lambda: not world.bundle(id).exists() and not world.work(id).exists())
    finally:
        free.set()
        thread.join(patience.SECONDS)
    shim.listen()
    world.create(id)


@clause("SHM-089", needs=DAEMON)
def test_the_death_of_a_shim_after_the_exit_is_told_as_an_exit(world, listen):
    """Rejects: silence, in which somebody waits for a deletion that never comes."""
    shim = world.shim()
    id = world.started(shim)
    shim.state = types.STOPPED
    ear = listen('topic~="/tasks/"')

    shim.cut()

    assert told(ear.until("/tasks/delete")) == [("/tasks/exit", 4242, 42), ("/tasks/delete", 4242, 42)]
    assert world.forgotten(id)


@clause("SHM-091", needs=OWN)
def test_a_clean_up_that_hangs_is_given_up(own_world):
    """Rejects: a daemon that waits for ever for a command."""
    world = own_world('[timeouts]\n"io.containerd.timeout.shim.cleanup" = "1s"\n')
    shim = world.shim()
    id = world.started(shim)
    shim.plan("delete", sleep=60.0)

    shim.cut()

    assert world.forgotten(id)
    assert until(lambda: len(shim.record()) == 2)
    assert until(lambda: not processes.alive(shim.record()[1]["pid"])), "the command still runs"
