"""Shims, the binary and its processes: commands, sockets, the serving process (SHM-012 to 019, 032 to 037, 042 to 044).

The calls of a serving shim are in ``shim_calls``, its events in ``shim_events``, several containers in one shim in
``shim_groups``, frames in ``shim_frames``; what a daemon does with a shim in ``shim_daemon``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import pytest

from conformance import clause, patience
from conformance.shim import processes
from conformance.shim.bundle import shell
from conformance.shim.waiting import until
from conformance.suites._shim import (
    FOREVER,
    KILLED,
    OCI,
    SHIM,
    gone,
    shim,
    stranger_reads,
)
from refimpl.api import runc_v1_pb2, typeurl
from refimpl.api.task_v2_pb2 import DeleteResponse

NO_CHECK: dict[str, str] = {}


@clause("SHM-012", needs=SHIM)
@pytest.mark.parametrize("action", ["start", "delete", "serve"])
def test_no_command_works_without_a_namespace(shim, action):
    """Rejects: a fall back to a namespace of the shim's own choice."""
    bundle = shim.bundle()

    output = shim.command(bundle, action, namespace="") if action != "serve" else shim.run(
        [str(shim.binary), "-id", bundle.id, "-address", shim.address], bundle.path
    )  # fmt: skip

    assert output.status == 1, output.said
    assert output.out == b"", "the daemon would take it for an address"
    assert b"namespace" in output.err, output.said


@clause("SHM-012", needs=SHIM)
def test_an_unknown_flag_is_answered_with_the_usage(shim):
    """Rejects: unknown flags that are passed over, so that a newer daemon's wish is lost without a word."""
    output = shim.run([str(shim.binary), "-foo", "start"])

    assert output.status == 2, output.said
    assert output.out == b"", output.said
    assert b"-namespace" in output.err, "the usage names the flags"


@clause("SHM-013", needs=SHIM)
def test_start_fails_in_a_bundle_without_a_configuration(shim):
    """Rejects: a server for an empty bundle, which no Create can ever fill."""
    bundle = shim.bundle(config=False)
    before = bundle.listing()

    output = shim.command(bundle, "start")

    assert output.status == 1, output.said
    assert output.out == b"", output.said
    assert b"config.json" in output.err, output.said
    assert bundle.listing() == before
    assert shim.shim_processes() == []


@clause("SHM-014", needs=SHIM)
def test_the_version_can_be_asked_for_without_anything_else(shim):
    """Rejects: -v that wants a namespace or a bundle first."""
    output = shim.run([str(shim.binary), "-v"])

    assert output.status == 0, output.said
    assert b"Version:" in output.out, output.said


@clause("SHM-015", needs=(*SHIM, "root"))
def test_the_socket_is_named_after_daemon_namespace_and_id(shim):
    """Rejects: a name from the id alone, with which two namespaces or two daemons meet on one socket."""
    bundle = shim.bundle()

    address = shim.serve(bundle)

    digest = sha256(f"{shim.address}/{shim.namespace}/{bundle.id}".encode()).hexdigest()
    assert address == f"unix:///run/containerd/s/{digest}"


@clause("SHM-016", needs=SHIM)
def test_the_socket_is_private(shim):
    """Rejects: a socket or a directory that others may enter."""
    address = Path(shim.serve(shim.bundle()).removeprefix("unix://"))

    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert stat.S_IMODE(address.parent.stat().st_mode) & 0o077 == 0, "others may enter the directory of the sockets"


@clause("SHM-016", needs=(*SHIM, "two-uids"))
def test_another_user_is_turned_away_whatever_the_mode_of_the_socket(shim):
    """Rejects: trust in the mode of the file alone."""
    bundle = shim.bundle()
    shim.top.chmod(0o755)
    path = shim.top / "open.sock"
    argv = [str(shim.binary), "-namespace", shim.namespace, "-id", bundle.id, "-address", shim.address]
    server = subprocess.Popen(
        [*argv, "-socket", str(path)], cwd=bundle.path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "TTRPC_ADDRESS": shim.events.address},
    )  # fmt: skip
    try:
        assert until(path.exists), "the shim made no socket"
        # It answers: whatever it does to its socket is done.
        assert shim.task(f"unix://{path}").connect("").shim_pid == server.pid
        path.chmod(0o777)
        assert shim.task(f"unix://{path}").connect("").shim_pid == server.pid
        assert stranger_reads(str(path)) == "closed"
        assert shim.task(f"unix://{path}").connect("").shim_pid == server.pid, "it does not serve its own user any more"
    finally:
        server.kill()
        server.wait()


@clause("SHM-017", needs=SHIM)
def test_start_answers_with_the_shim_that_runs_already(shim):
    """Rejects: a second process for the same task, or the end of the first."""
    bundle = shim.bundle()
    first = shim.serve(bundle)
    pid = shim.task(first).connect("").shim_pid

    second = shim.serve(bundle)

    assert second == first
    assert shim.task(second).connect("").shim_pid == pid
    assert until(lambda: shim.shim_processes() == [pid]), shim.shim_processes()


@clause("SHM-018", needs=SHIM)
def test_start_replaces_a_socket_that_nobody_serves(shim):
    """Rejects: "address already in use" for ever after a crash."""
    bundle = shim.bundle()
    address = shim.serve(bundle)
    path = address.removeprefix("unix://")
    pid = shim.task(address).connect("").shim_pid
    processes.kill(pid)
    assert until(lambda: not processes.alive(pid))
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)

    again = shim.serve(bundle)

    assert again == address
    assert shim.task(again).connect("").shim_pid not in (0, pid)


@clause("SHM-019", needs=SHIM)
def test_a_socket_path_that_is_too_long_is_refused(shim):
    """Rejects: a path cut in silence, at which nobody will look for the shim."""
    bundle = shim.bundle()
    path = shim.top / ("s" * (124 - len(str(shim.top))))
    assert len(str(path)) == 125
    argv = [str(shim.binary), "-namespace", shim.namespace, "-id", bundle.id, "-address", shim.address]

    output = shim.run([*argv, "-socket", str(path)], bundle.path)

    assert output.status == 1, output.said
    assert not any(entry.name.startswith("sss") for entry in shim.top.iterdir())


@clause("SHM-032", needs=SHIM)
def test_a_shim_is_silent_until_somebody_reads_its_log(shim):
    """Rejects: a log that is opened some time later, or not at all: the first lines are lost."""
    bundle = shim.bundle(log=False)
    address = shim.serve(bundle)
    asked = shim.later(lambda: shim.task(address).connect(bundle.id).shim_pid)

    assert not until(asked.done, 1.0), "it answered although its log has no reader"
    bundle.log.open()

    assert asked.result(patience.SECONDS) > 0
    assert until(lambda: bundle.log.text.strip() != ""), "nothing was logged"


@clause("SHM-033", needs=SHIM)
def test_a_shim_may_dump_its_stacks_and_serves_on(shim):
    """Rejects: a signal for diagnosis that ends the shim."""
    container = shim.shim()
    pid = container.shim_pid

    processes.kill(pid, signal.SIGUSR1)

    assert container.bundle.log.has("goroutine", 3.0) or processes.alive(pid)
    assert container.task.connect("").shim_pid == pid


@clause("SHM-034", needs=SHIM)
def test_the_serving_process_is_nobodys_child(shim):
    """Rejects: a child of the daemon, so that stopping the daemon takes the containers along."""
    bundle = shim.bundle()
    output = shim.command(bundle, "start")
    pid = shim.task(output.address).connect("").shim_pid

    assert processes.parent(pid) != os.getpid()
    assert (
        not processes.alive(processes.parent(pid))
        or processes.parent(pid) == 1
        or processes.begun(processes.parent(pid)) < processes.begun(os.getpid())
    ), "its parent is neither init nor a reaper above us"
    assert int(processes.stat(pid)[2]) == pid, "it leads no process group of its own"
    assert Path(f"/proc/{pid}/cwd").resolve() == bundle.path.resolve()
    argv = processes.arguments(pid)
    flags = ["-namespace", shim.namespace, "-id", bundle.id, "-address", shim.address]
    assert [word for word in argv if word in flags] == flags, f"serves as {argv}"


@clause("SHM-035", needs=SHIM)
def test_the_kernel_prefers_the_shim_to_the_daemon_when_memory_ends(shim):
    """Rejects: a shim with the daemon's own score."""
    container = shim.running()

    ours, theirs, inits = (
        int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (os.getpid(), container.shim_pid, container.pid)
    )

    assert (theirs, inits) == (ours + 1, ours + 1)


@clause("SHM-036", needs=SHIM)
def test_a_shim_reaps_the_orphans_of_its_containers(shim):
    """Rejects: a shim that waits only for the processes it started itself."""
    container = shim.running(FOREVER, namespaces=("ipc", "uts", "mount"))
    pid = container.shim_pid
    container.exec("e", shell("(sleep 99 &); exit 0"))
    container.wait("e")

    def orphans():
        return [child for child in processes.children(pid) if processes.arguments(child)[-1:] == ["99"]]

    assert until(orphans), "an orphan of the container is no child of the shim"
    for orphan in orphans():
        processes.kill(orphan)

    assert until(lambda: set(processes.children(pid)) == {container.pid}), "zombies are left"
    shim.events.wait_for(container.id, "exit")
    time.sleep(0.1)
    exits = [one for one in shim.events.of(container.id) if one.topic == "/tasks/exit"]
    assert [one.event.id for one in exits] == ["e"], "the exit of an orphan is nobody's business"


@clause("SHM-037", needs=(*OCI, "cgroup-v1"))
def test_a_cgroup_for_the_shim_has_to_exist(shim):
    """Rejects: a wish for a cgroup that is passed over when it cannot be met."""
    bundle = shim.bundle()
    options = typeurl.pack(runc_v1_pb2.Options(shim_cgroup="/conform-no-such-group"))

    output = shim.command(bundle, "start", stdin=options.SerializeToString())

    assert output.status == 1, output.said
    assert b"cgroup" in output.out + output.err, output.said
    assert until(lambda: not shim.shim_processes()), "a shim was left behind"


@pytest.fixture
def orphan(shim):
    """A running container whose shim was killed."""
    container = shim.running()
    pid = container.shim_pid
    processes.kill(pid)
    assert until(lambda: not processes.alive(pid))
    return container


@clause("SHM-042", needs=SHIM)
def test_delete_tells_of_the_exit_in_one_message(shim, orphan):
    """Rejects: text for people on standard output, or an exit status that claims to know better."""
    before = time.time()
    output = shim.delete(orphan.bundle)
    after = time.time()

    assert output.status == 0, output.said
    answer = DeleteResponse.FromString(output.out)
    assert (answer.pid, answer.exit_status) == (orphan.pid, KILLED)
    assert before - 1 <= answer.exited_at.seconds + answer.exited_at.nanos / 1e9 <= after + 1


@clause("SHM-043", needs=SHIM)
def test_delete_ends_what_the_shim_left_and_can_be_repeated(shim, orphan):
    """Rejects: an answer of 137 without a killing, and a second delete that fails because the first one worked."""
    assert processes.alive(orphan.pid)

    first, second = shim.delete(orphan.bundle), shim.delete(orphan.bundle)

    assert until(lambda: not processes.alive(orphan.pid)), "the container still runs"
    assert (first.status, second.status) == (0, 0), f"first: {first.said}; second: {second.said}"
    assert DeleteResponse.FromString(second.out).exit_status == KILLED
    assert processes.mounts_below(orphan.bundle.path) == []
    assert (orphan.bundle.path / "config.json").exists(), "the bundle is the daemon's to remove"


@clause("SHM-043", needs=OCI)
def test_delete_leaves_no_state_of_the_oci_runtime(shim, orphan):
    """Rejects: an id that the OCI runtime refuses the next time, because it still knows it."""
    state = Path("/run/containerd/runc") / shim.namespace / orphan.id
    assert state.exists()

    shim.delete(orphan.bundle)

    assert gone(state)


@clause("SHM-044", needs=SHIM)
def test_delete_works_for_a_container_that_was_never_created(shim):
    """Rejects: a clean-up that needs what only Create leaves."""
    bundle = shim.bundle()

    output = shim.delete(bundle)

    assert output.status == 0, output.said
    assert DeleteResponse.FromString(output.out).exit_status == KILLED


@clause("SHM-081", needs=SHIM)
def test_closed_connections_do_not_matter_to_a_shim(shim):
    """Rejects: a shim that ends with the connection of the daemon, which may only be restarting."""
    container = shim.running()
    pid = container.shim_pid
    other = shim.task(container.address)

    container.task.close()
    assert other.connect("").shim_pid == pid
    other.close()
    time.sleep(0.3)

    third = shim.task(container.address)
    assert third.connect("").shim_pid == pid
    assert third.state(container.id).pid == container.pid
    assert processes.alive(container.pid)


@clause("SHM-090", needs=SHIM)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_shim_that_is_told_to_end_leaves_its_containers_alone(shim, number):
    """Rejects: a shim that does not listen, or one that kills what it was to keep."""
    container = shim.running()
    pid = container.shim_pid

    processes.kill(pid, number)

    assert until(lambda: not processes.alive(pid)), "the shim still runs"
    assert processes.alive(container.pid), "it took its container along"
    shim.delete(container.bundle)
    assert until(lambda: not processes.alive(container.pid))
