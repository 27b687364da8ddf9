"""The first runtime on a machine: its shim, its files, what outlives what (RT1-001 to 009, 018 to 029)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat as modes
import subprocess
import threading
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from conformance import clause
from conformance.runc_state import HERE
from conformance.suites._boxes import until
from conformance.suites._events import opened, program, ttrpc
from conformance.suites._linux import NAME, Files, bundle, environment, linux, listen, shims_for, stat, words
from conformance.suites._tasks import LASTING, PATIENCE, Later, alive, eventually, mounts_below, soon, streams
from refimpl.api import linux_runc_pb2, runc_v1_pb2, shim_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, Unimplemented, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import Status
from refimpl.contract.types import TypedAny

__all__ = ["bundle", "linux", "listen", "streams"]

SHIM = "containerd.runtime.linux.shim.v1.Shim"

ON_DISK = {"runc", "cgroup-v1", "disk"}
"""A subject whose files and processes are those of this machine."""

OWN = {*ON_DISK, "config", "restart"}

NOT_FOUND, UNIMPLEMENTED = 5, 12


def mode(path):
    """Permission bits."""
    return modes.S_IMODE(path.lstat().st_mode)


def details(info):
    """A message as options travel."""
    return TypedAny(info.DESCRIPTOR.full_name, info.SerializeToString())


def plugin(**settings):
    """The plugin's section."""
    lines = [f"  {key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(["version = 2", f'[plugins."{NAME}"]', *lines, ""])


# ------------------------------------------------------------------------------------------------- what is started


@clause("RT1-001", needs=ON_DISK)
def test_the_task_has_a_shim_of_this_runtime(linux, subject):
    """Rejects: a shim of the second runtime that is started under another name."""
    box = linux(*LASTING)
    box.create()

    files = Files(subject, box)
    assert files.bundle.is_dir()
    assert Path(words(files.shim)[0]).name == "containerd-shim"


@clause("RT1-001", needs={"runc", "cgroup-v1", "log"})
def test_whoever_uses_this_runtime_is_warned(own, bundle):
    """Rejects: a runtime that goes away, and nobody was told."""
    instance = own()
    bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance).create()

    eventually(lambda: "deprecated" in instance.log(), "a warning in the log")


@clause("RT1-003", needs={"command"})
def test_the_settings_have_these_defaults(subject):
    """Rejects: settings under other names, or a runtime that is not runc."""
    dump = subprocess.run([*program(subject.address), "config", "default"], capture_output=True, check=True, timeout=20)

    assert tomllib.loads(dump.stdout.decode())["plugins"][NAME] == {
        "shim": "containerd-shim",
        "runtime": "runc",
        "runtime_root": "",
        "no_shim": False,
        "shim_debug": False,
    }


@clause("RT1-003", needs=OWN)
def test_the_oci_runtime_and_its_root_are_those_of_the_settings(own, bundle, tmp_path):
    """Rejects: settings that are read and not used."""
    copy, root = tmp_path / "copy-of-runc", tmp_path / "oci"
    shutil.copy(str(shutil.which("runc")), copy)
    instance = own(config=plugin(runtime=str(copy), runtime_root=str(root)))
    box = bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance)

    box.create()

    assert (root / HERE / box.id / "state.json").exists()


@clause("RT1-004", needs=ON_DISK)
def test_bundle_and_work_directory_hold_these_and_nothing_else(linux, subject):
    """Rejects: the layout of the second runtime."""
    box = linux(*LASTING)
    box.run()
    files = Files(subject, box)

    names = {path.name: oct(mode(path)) for path in files.bundle.iterdir()}
    assert set(names) == {"config.json", "rootfs", "address", "shim.pid", "init.pid", "log.json"}
    assert json.loads((files.bundle / "config.json").read_text())["process"]["args"] == list(LASTING)
    assert int((files.bundle / "init.pid").read_text()) == box.get().pid
    fifos = {path.name: (modes.S_ISFIFO(path.lstat().st_mode), oct(mode(path))) for path in files.work.iterdir()}
    assert fifos == {"shim.stdout.log": (True, "0o700"), "shim.stderr.log": (True, "0o700")}
    folders = [files.bundle, files.work, *(f for d in (files.bundle, files.work) for f in (d.parent, d.parent.parent))]
    assert [oct(mode(folder)) for folder in folders] == ["0o700"] + ["0o711"] * 5


@clause("RT1-005", needs=ON_DISK)
def test_a_mapped_root_may_enter_its_bundle(linux, subject):
    """Rejects: a bundle that only the host's root can enter."""
    ids = [{"containerID": 0, "hostID": 12345, "size": 1000}]
    box = linux(
        *LASTING,
        namespaces=("pid", "mount", "ipc", "uts", "user"),
        linux={"uidMappings": ids, "gidMappings": ids},
    )  # fmt: skip
    files = Files(subject, box)
    seen: list[tuple[int, int]] = []

    def look():
        # The OCI runtime may refuse the mapping; the bundle is there for as long as it thinks.
        while not seen and not creation.done:
            with suppress(OSError):
                if (files.bundle / "shim.pid").exists():
                    found = files.bundle.stat()
                    seen.append((modes.S_IMODE(found.st_mode), found.st_gid))

    creation = Later(box.create)
    look()
    creation.outcome()
    assert seen == [(0o710, 12345)]


@clause("RT1-006", needs=ON_DISK)
def test_the_shim_is_started_with_these_words(linux, subject):
    """Rejects: the command line of the second runtime's shims, and its environment."""
    box = linux(*LASTING)
    box.create()
    files = Files(subject, box)

    argv = words(files.shim)
    assert argv[:8] == [
        "containerd-shim", "-namespace", box.ctx.namespace, "-workdir", str(files.work), "-address", subject.address,
        "-containerd-binary",
    ]  # fmt: skip
    assert len(argv) == 9
    assert Path(argv[8]).is_absolute()
    assert Path(f"/proc/{files.shim}/cwd").readlink() == files.bundle
    found = environment(files.shim)
    assert found["GOMAXPROCS"] == "2"
    assert "TTRPC_ADDRESS" not in found


@clause("RT1-006", needs=OWN)
def test_settings_that_matter_to_the_shim_follow_in_order(own, bundle, tmp_path):
    """Rejects: a shim that does not know its settings."""
    instance = own(config=plugin(shim_debug=True, runtime_root=str(tmp_path / "oci")))
    box = bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance)

    box.create()

    assert words(Files(instance, box).shim)[9:] == ["-runtime-root", str(tmp_path / "oci"), "-debug"]


@clause("RT1-007", needs={*OWN, "command"})
def test_the_shim_is_a_child_of_the_daemon_and_outlives_it(own, bundle):
    """Rejects: a shim in the daemon's process group, or one that ends with the daemon."""
    instance = own()
    box = bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance)
    box.run()
    shim = Files(instance, box).shim

    parent, group, start = stat(shim)[1], stat(shim)[2], stat(shim)[19]
    assert words(int(parent))[0].endswith(program(instance.address)[0])
    assert int(group) == shim
    assert str(Path(f"/proc/{shim}/fd/3").readlink()).startswith("socket:")
    # What a shim that outlives its daemon prints must not break it: it holds both ends of its logs.
    held = {fd.readlink() for fd in Path(f"/proc/{shim}/fd").iterdir()}
    assert {Files(instance, box).work / f"shim.{name}.log" for name in ("stdout", "stderr")} <= held

    instance.restart()
    box.tasks = instance.tasks
    box.containers = instance.containers

    assert alive(shim)
    assert stat(shim)[19] == start, "the pid is that of another process"
    assert stat(shim)[1] != parent
    assert box.status() is Status.RUNNING


@clause("RT1-008", needs=ON_DISK)
def test_the_socket_of_the_shim_has_a_name_that_can_be_computed(linux, subject):
    """Rejects: a socket in the abstract name space, which every user of the machine can reach."""
    box = linux(*LASTING)
    box.create()
    files = Files(subject, box)

    name = hashlib.sha256(f"{subject.address}/{box.ctx.namespace}/{box.id}".encode()).hexdigest()
    assert (files.bundle / "address").read_text() == f"unix:///run/containerd/s/{name}"
    socket = Path(files.address)
    assert modes.S_ISSOCK(socket.lstat().st_mode)
    assert oct(mode(socket)) == "0o600"


@clause("RT1-009", needs=ON_DISK)
def test_the_shim_speaks_its_own_protocol(linux, subject):
    """Rejects: the service of the second runtime's shims, or two fields for who is meant."""
    box = linux(*LASTING)
    pid = box.run()
    box.run_exec("e", *LASTING)
    files = Files(subject, box)

    def ask(method, request, service=SHIM):
        return ttrpc(files.address, service, method, request, namespace=box.ctx.namespace)

    info = ask("ShimInfo", Empty())
    assert shim_v1_pb2.ShimInfoResponse.FromString(info.payload).shim_pid == files.shim
    assert ask("Nope", Empty()).code == UNIMPLEMENTED
    assert ask("Connect", Empty(), "containerd.task.v2.Task").code == UNIMPLEMENTED
    assert ask("State", shim_v1_pb2.StateRequest(id="z")).code == NOT_FOUND
    for id, exec_pid in ((box.id, pid), ("e", box.get("e").pid)):
        state = shim_v1_pb2.StateResponse.FromString(ask("State", shim_v1_pb2.StateRequest(id=id)).payload)
        assert (state.id, state.pid, state.status) == (id, exec_pid, Status.RUNNING.value)


# ------------------------------------------------------------------------------------------------- what is left


@clause("RT1-018", needs=ON_DISK)
@pytest.mark.parametrize("wrong", ["mount", "program"])
def test_a_failed_creation_leaves_nothing_on_the_machine(linux, subject, wrong):
    """Rejects: a shim for every failed creation."""
    box = linux("/no/such" if wrong == "program" else "true")
    rootfs = [Mount("bind", "/no/such", options=("bind", "ro"))] if wrong == "mount" else None
    files = Files(subject, box)

    with pytest.raises(Unknown):
        box.create(**({"rootfs": rootfs} if rootfs else {}))

    assert files.gone()
    assert mounts_below(files.bundle) == []
    eventually(lambda: not shims_for(box), "the end of the shim")


@clause("RT1-019", needs=ON_DISK)
def test_the_root_file_system_is_mounted_until_the_task_is_deleted(linux, subject):
    """Rejects: a file system that is taken away when the program ends."""
    box = linux("true")
    files = Files(subject, box)

    box.run()
    box.wait()

    assert mounts_below(files.bundle) == [str(files.bundle / "rootfs")]
    box.delete()
    assert mounts_below(files.bundle) == []


@clause("RT1-020", needs=ON_DISK)
def test_the_removal_of_a_task_ends_its_shim(linux, subject):
    """Rejects: a shim for every task that ever was."""
    box = linux("true")
    box.run()
    box.wait()
    files = Files(subject, box)
    shim, socket = files.shim, Path(files.address)
    assert alive(shim)
    assert socket.exists()

    box.delete()

    eventually(lambda: not alive(shim), "the end of the shim")
    eventually(lambda: not socket.exists(), "the end of its socket")
    assert files.gone()


@clause("RT1-021", needs=ON_DISK)
def test_a_task_ends_with_its_shim(linux, subject, listen):
    """Rejects: a task without a shim, which nobody can end any more."""
    box = linux(*LASTING)
    pid = box.run()
    files = Files(subject, box)
    ear = listen()
    waiter = Later(box.wait)
    # A call that is not there yet would find nothing to wait for.
    time.sleep(1)
    before = time.time()

    os.kill(files.shim, signal.SIGKILL)

    failure = waiter.outcome()
    assert isinstance(failure, Unknown), f"who waits hears {failure!r}"
    until(box.gone, "the end of the task")
    ear.until("/tasks/delete")
    ear.until("/tasks/exit")
    ends = [opened(each) for each in ear() if each.topic in {"/tasks/exit", "/tasks/delete"}]
    assert [(end.container_id, end.pid, end.exit_status) for end in ends] == [(box.id, pid, 137)] * 2
    assert all(before - 1 <= end.exited_at.seconds <= time.time() + 1 for end in ends)
    eventually(lambda: not alive(pid), "the end of the process")
    eventually(files.gone, "the end of the directories")
    state = Path("/run/containerd/runc") / box.ctx.namespace / box.id
    eventually(lambda: not state.exists(), "the end of the state of the OCI runtime")


@clause("RT1-022", needs=OWN)
def test_after_a_restart_every_task_is_what_became_of_it(own, bundle):
    """Rejects: processes that are forgotten, and ends that nobody sees because they came while the daemon was away."""
    instance = own()
    ctx, socket = CallContext(HERE), instance.address
    lives, orphan = (bundle(ctx, LASTING, runtime=NAME, on=instance) for _ in range(2))
    # The socket is away as long as the daemon.
    ends = bundle(
        ctx, ["sh", "-c", f"while [ -e {socket} ]; do sleep 0.01; done; exit 8"], runtime=NAME, on=instance
    )  # fmt: skip
    boxes = [lives, orphan, ends]
    pids = [box.run() for box in boxes]
    exec_pid = lives.run_exec("e", *LASTING)
    shim = Files(instance, orphan).shim
    hidden = instance.root.parent / "state" / NAME / ".hidden"
    hidden.mkdir()
    stop = threading.Event()

    def kill_when_away():
        while Path(socket).exists() and not stop.is_set():
            time.sleep(0.002)
        os.kill(shim, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_away, daemon=True)
    killer.start()
    try:
        instance.restart()
    finally:
        stop.set()
        killer.join(PATIENCE)
    for box in boxes:
        box.tasks, box.containers = instance.tasks, instance.containers

    assert (lives.status(), lives.get().pid) == (Status.RUNNING, pids[0])
    assert (lives.status("e"), lives.get("e").pid) == (Status.RUNNING, exec_pid)
    eventually(orphan.gone, "the end of the task whose shim has died")
    assert ends.status() is Status.STOPPED
    assert (ends.wait().status, ends.delete().status) == (8, 8)
    assert hidden.exists()


# ------------------------------------------------------------------------------------------------- the OCI runtime


CHECKPOINTER = """#!/bin/sh
command=
for word; do
  case $word in checkpoint) command=checkpoint;; esac
  case $previous in --image-path) folder=$word;; esac
  previous=$word
done
[ "$command" ] || exec {runc} "$@"
mkdir -p "$folder"
echo pages $$ >"$folder/pages.img"
echo core >"$folder/core.img"
"""
"""An OCI runtime that can checkpoint without CRIU. No two of its checkpoints are equal."""


@clause("RT1-025", needs=ON_DISK)
def test_a_checkpoint_is_told(linux, listen, ctx, tmp_path):
    """Rejects: the silence of the second runtime's shims, or files that go somewhere else."""
    stub = tmp_path / "stub"
    stub.write_text(CHECKPOINTER.format(runc=shutil.which("runc")))
    stub.chmod(0o755)
    box = linux(*LASTING, options=details(linux_runc_pb2.RuncOptions(runtime=str(stub))))
    box.run()
    ear = listen()

    made = box.tasks.checkpoint(soon(ctx, 2 * PATIENCE), box.id)
    ear.until("/tasks/checkpointed")
    folder = tmp_path / "image"
    into = details(linux_runc_pb2.CheckpointOptions(image_path=str(folder)))
    kept = box.tasks.checkpoint(soon(ctx, 2 * PATIENCE), box.id, options=into)
    ear.until("/tasks/checkpointed", 2)
    with pytest.raises(Unknown):
        box.tasks.checkpoint(soon(ctx, 2 * PATIENCE), box.id, options=details(runc_v1_pb2.CheckpointOptions()))
    told = [opened(each).container_id for each in ear() if each.topic == "/tasks/checkpointed"]

    assert len(made) == 2
    assert kept == []
    assert {path.name for path in folder.iterdir()} >= {"pages.img", "core.img"}
    assert told == [box.id] * 2


# ------------------------------------------------------------------------------------------------- other modes


@clause("RT1-027", needs=OWN)
def test_without_shims_the_daemon_does_their_work(own, bundle, tmp_path):
    """Rejects: a shim all the same."""
    root = tmp_path / "oci"
    instance = own(config=plugin(no_shim=True, runtime_root=str(root)))
    box = bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance)
    try:
        try:
            pid = box.run()
        except Unimplemented:
            assert Files(instance, box).gone()
            pytest.skip("the daemon does not offer it, and says so")
        files = Files(instance, box)
        assert {path.name for path in files.bundle.iterdir()} == {"config.json", "init.pid", "log.json", "rootfs"}
        assert alive(pid)
        box.kill()
        try:
            # 1.6 does not notice.
            assert box.wait(seconds=1).status == 137
        except DeadlineExceeded:
            eventually(lambda: not alive(pid), "the end of the process")
    finally:
        subprocess.run(
            ["runc", "--root", str(root / HERE), "delete", "--force", box.id], capture_output=True, check=False
        )


@clause("RT1-028", needs=OWN)
def test_a_daemon_starts_beside_bundles_that_it_cannot_mend(own, bundle):
    """Rejects: a daemon that does not start because of one task."""
    instance = own(config=plugin(shim_debug=True))
    box = bundle(CallContext(HERE), LASTING, runtime=NAME, on=instance)
    pid = box.run()
    files = Files(instance, box)
    shim = files.shim
    record = box.containers.get(box.ctx, box.id)
    box.containers.delete(box.ctx, box.id)
    try:
        instance.restart()

        # Kept for a look, in 1.6; who removes it has to do so wholly.
        assert files.bundle.exists() or files.gone()
        other = bundle(box.ctx, LASTING, runtime=NAME, on=instance)
        assert alive(other.run())
    finally:
        instance.containers.create(box.ctx, record)
        box.tasks, box.containers = instance.tasks, instance.containers
        for process in (pid, shim):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@clause("RT1-029", needs={"runc", "cgroup-v2"})
def test_where_there_is_no_cgroup_v1_tasks_are_refused(linux, introspection, ctx):
    """Rejects: a creation that hangs, or a runtime that keeps the daemon from starting."""
    assert introspection.plugins(ctx, ["type==io.containerd.runtime.v1"])[0].init_err is None

    with pytest.raises(Unknown, match="cgroup mountpoint does not exist"):
        linux(*LASTING).create()
    second = linux(*LASTING, runtime="io.containerd.runc.v2")
    second.run()
    assert second.status() is Status.RUNNING
