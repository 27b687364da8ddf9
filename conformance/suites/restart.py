"""Restart monitor: tasks as the labels of their containers wish them (RST-001 to 023, RST-032).

Each check has a daemon of its own whose monitor hardly pauses. What the monitor does not do shows after a pass: one is
over when a box that was made later runs (``pass_over``).
"""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import pytest

from conformance import clause
from conformance.runc_state import HERE, THERE
from conformance.subjects.base import SubjectError
from conformance.suites._boxes import STUBBORN, Boxes, daemon, ended, label, respec, restart, running, tree, until
from conformance.suites._content import ROOTED
from conformance.suites._events import opened
from conformance.suites._tasks import LASTING, PATIENCE
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.runtimes import IO, Status

__all__ = ["daemon"]

PLUGIN = "io.containerd.internal.v1.restart"

SOON = 0.1
"""Seconds between two passes."""


def every(seconds: float) -> str:
    """The monitor's section."""
    return f'version = 2\n[plugins."{PLUGIN}"]\n  interval = "{int(seconds * 1000)}ms"\n'


def pass_over(boxes: Boxes, count: int = 1) -> None:
    """Wait until the monitor has looked at everything that is there now, ``count`` times, and has done what it does.

    A new box runs: that pass saw all that was made before it. Another one runs: that pass is over.
    """
    for _ in range(count + 1):
        running(boxes.box(*LASTING, labels={"status": "running"}))


def is_next(boxes: Boxes) -> bool:
    """Whether the monitor is that of 2.x, which names the policies it knows."""
    return bool(policies(boxes))


def policies(boxes: Boxes) -> list[str]:
    """What the monitor says that it can do."""
    (plugin,) = boxes.instance.introspection.plugins(CallContext(), ["id==restart"])
    return sorted(plugin.capabilities)


@pytest.fixture
def boxes(daemon):
    """Boxes of a daemon whose monitor hardly pauses."""
    return daemon(every(SOON))


# ------------------------------------------------------------------------------------------------- what is managed


@clause("RST-001")
def test_a_container_without_the_label_is_left_alone(boxes):
    """Rejects: every container whose task has ended is started again."""
    bare = boxes.box(*LASTING)
    other = boxes.box(*LASTING, labels={"loguri": "file:///dev/null"})
    over = boxes.run("sh", "-c", "exit 4")
    over.wait()
    pid = over.get().pid

    pass_over(boxes)

    assert bare.gone()
    assert other.gone(), "the label that counts is the status"
    assert (over.status(), over.get().pid) == (Status.STOPPED, pid)


@clause("RST-002")
def test_a_missing_task_is_made_and_started(boxes):
    """Rejects: a monitor that acts on the end of tasks only."""
    told = boxes.listen()

    box = boxes.box(*LASTING, labels={"status": "running"})
    pid = running(box)

    told.until("/tasks/start")
    tasks = [(each.topic, opened(each)) for each in told() if each.topic.startswith("/tasks/")]
    assert [(topic, message.container_id, message.pid) for topic, message in tasks] == [
        ("/tasks/create", box.id, pid),
        ("/tasks/start", box.id, pid),
    ]


@clause("RST-003")
@pytest.mark.parametrize("status", [7, 0])
def test_a_task_that_ended_is_replaced_whatever_its_exit_status(boxes, status):
    """Rejects: success that counts as done, or a start of the old task instead of a new one."""
    box = boxes.run("sh", "-c", f"exit {status}")
    box.wait()
    before = box.get().pid
    respec(box, *LASTING)
    told = boxes.listen()

    label(box, status="running")
    running(box, instead_of=before)

    told.until("/tasks/start")
    tasks = [each.topic for each in told() if each.topic.startswith("/tasks/")]
    assert tasks == ["/tasks/delete", "/tasks/create", "/tasks/start"]


@clause("RST-003")
def test_a_task_that_ends_again_and_again_is_started_every_time(boxes):
    """Rejects: a monitor that gives up."""
    told = boxes.listen()

    boxes.box("sh", "-c", "exit 5", labels={"status": "running"})

    told.until("/tasks/start", 3)
    # A program that ends at once may do so before anybody can tell of its start.
    topics = [each.topic for each in told() if each.topic in {"/tasks/create", "/tasks/delete"}]
    assert topics[:5] == ["/tasks/create", "/tasks/delete"] * 2 + ["/tasks/create"]


@clause("RST-004")
def test_a_task_that_was_never_started_is_replaced(boxes):
    """Rejects: a task that waits to be started and counts as running."""
    box = boxes.box(*LASTING)
    created = box.create(rootfs=())

    label(box, status="running")

    running(box, instead_of=created)


@clause("RST-005")
def test_a_paused_task_is_replaced_before_2_x_and_left_alone_since(boxes):
    """Rejects: a pause that the monitor ends."""
    box = boxes.run(*LASTING)
    pid = box.get().pid
    box.pause()

    label(box, status="running")

    if is_next(boxes):
        pass_over(boxes)
        assert (box.status(), box.get().pid) == (Status.PAUSED, pid)
    else:
        running(box, instead_of=pid)


@clause("RST-006")
def test_a_task_that_should_be_stopped_is_killed_and_deleted(boxes):
    """Rejects: a polite signal, and no more than that; a task that is killed and stays; the container gone with it."""
    box = boxes.run(*STUBBORN)
    told = boxes.listen()

    label(box, status="stopped")
    until(box.gone, "the end of the task")

    told.until("/tasks/delete")
    ends = [opened(each) for each in told() if each.topic in {"/tasks/exit", "/tasks/delete"}]
    assert [(end.container_id, end.exit_status) for end in ends] == [(box.id, 137)] * 2
    assert box.containers.get(box.ctx, box.id).id == box.id
    pass_over(boxes)
    assert box.gone()


@clause("RST-006")
@pytest.mark.parametrize("state", [Status.CREATED, Status.PAUSED])
def test_a_task_in_any_other_state_is_ended_too(boxes, state):
    """Rejects: only RUNNING counts as something to stop."""
    box = boxes.box(*LASTING)
    box.create(rootfs=())
    if state is Status.PAUSED:
        box.start()
        box.pause()

    label(box, status="stopped")

    until(box.gone, f"the end of a task that is {state.name}")


@clause("RST-007")
def test_a_task_that_has_stopped_keeps_its_exit_status(boxes):
    """Rejects: a task that is deleted because it should be stopped: how it ended is lost."""
    over = boxes.run("sh", "-c", "exit 3")
    over.wait()
    none = boxes.box(*LASTING, labels={"status": "stopped"})

    label(over, status="stopped")
    pass_over(boxes, 2)

    assert (over.status(), over.get().exit_status) == (Status.STOPPED, 3)
    assert none.gone()


@clause("RST-008")
def test_other_wishes_are_no_wishes(boxes):
    """Rejects: whatever is not "stopped" taken for "running", or the other way round."""
    values = ["paused", "created", "banana", "Running", " running", ""]
    without = [boxes.box(*LASTING, labels={"status": value}) for value in values]
    lasting = boxes.run(*LASTING)
    pid = lasting.get().pid
    label(lasting, status="banana")

    pass_over(boxes)

    assert [box.gone() for box in without] == [True] * len(values)
    assert (lasting.status(), lasting.get().pid) == (Status.RUNNING, pid)


@clause("RST-009")
def test_labels_count_as_they_are_now(boxes):
    """Rejects: the labels that a container was made with."""
    box = boxes.box(*LASTING, labels={"status": "running"})
    first = running(box)

    label(box, status="stopped")
    until(box.gone, "the end of the task")
    label(box, status="running")
    running(box, instead_of=first)
    label(box)
    ended(box)

    pass_over(boxes)
    assert box.status() is Status.STOPPED


@clause("RST-010")
def test_a_task_that_a_client_killed_is_started_again(boxes):
    """Rejects: a kill that counts as the wish for an end."""
    box = boxes.box(*LASTING, labels={"status": "running"})
    pid = running(box)

    box.kill(signal.SIGKILL)

    running(box, instead_of=pid)


# ------------------------------------------------------------------------------------------------------- passes


@clause("RST-011")
def test_the_interval_lies_between_two_passes(daemon):
    """Rejects: a duration that is read in another unit, or not at all."""
    boxes = daemon(every(0.4))
    told = boxes.listen()

    boxes.box("true", labels={"status": "running"})

    starts = [each.timestamp / 1e9 for each in told.until("/tasks/create", 3) if each.topic == "/tasks/create"]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    # Events get their time from the shims, which may be a little late with one; and what a pass does takes its time.
    assert min(gaps) >= 0.3, f"passes began {gaps} s after one another"
    assert max(gaps) < 9, f"passes began {gaps} s after one another"


@clause("RST-011", needs={"runc", "restart"})
@pytest.mark.parametrize("setting", ["", '"0s"'], ids=["no", "zero"])
def test_without_an_interval_there_are_seconds_between_two_passes(daemon, setting):
    """Rejects: a monitor that never pauses."""
    boxes = daemon(f'version = 2\n[plugins."{PLUGIN}"]\n  interval = {setting}\n' if setting else "")
    first = boxes.box(*LASTING, labels={"status": "running"})
    boxes.restart()
    # The first pass has looked at what there is, or the box would not run.
    running(first)

    box = boxes.box(*LASTING, labels={"status": "running"})
    time.sleep(0.5)

    assert box.gone()


@clause("RST-011", needs={"config"})
@pytest.mark.parametrize("value", ['"abc"', "10"], ids=["no-duration", "number"])
def test_an_interval_that_is_no_duration_is_refused_at_the_start(own, value):
    """Rejects: a bare number taken for nanoseconds, and words for the default."""
    with pytest.raises(SubjectError, match="duration"):
        own(config=f'version = 2\n[plugins."{PLUGIN}"]\n  interval = {value}\n')


@clause("RST-012", needs={"runc", "restart"})
def test_the_first_pass_comes_with_the_start(daemon):
    """Rejects: a monitor that pauses before it looks."""
    boxes = daemon(every(60))
    # The first pass is over: it saw no boxes.
    time.sleep(0.3)
    box = boxes.run("true")
    box.wait()
    pid = box.get().pid
    respec(box, *LASTING)
    label(box, status="running")

    boxes.restart()

    running(box, instead_of=pid)


@clause("RST-013")
def test_every_namespace_is_watched(boxes):
    """Rejects: a monitor for the namespace "default", or one that starts tasks there."""
    both = [boxes.box(*LASTING, id="same", ns=ns, labels={"status": "running"}) for ns in (HERE, THERE)]

    pids = [running(box) for box in both]

    assert len(set(pids)) == 2
    for box, pid in zip(both, pids, strict=True):
        assert [(task.id, task.pid) for task in box.tasks.list(box.ctx)] == [("same", pid)]
    with pytest.raises(NotFound):
        boxes.instance.tasks.get(CallContext("default"), "same")


@clause("RST-014")
def test_a_container_that_cannot_be_started_does_not_hold_up_others(boxes):
    """Rejects: a pass that ends at the first failure, and what a failed start leaves behind."""
    wish = {"status": "running"}
    bad = [
        boxes.box("/no/such", id="a-missing", labels=wish),
        boxes.box(*LASTING, id="b-log", labels={**wish, "loguri": "npipe:///no"}),
        boxes.box(*LASTING, id="c-terminal", labels=wish, terminal=True),
    ]

    good = boxes.box(*LASTING, id="z-good", labels=wish)
    pid = running(good)
    pass_over(boxes)

    assert good.get().pid == pid
    # Between two tries there is a moment in which the task is there: only where none ever comes to life is none.
    for box in bad:
        until(box.gone, f"no task of {box.id}")
        assert not _runs(box)
    if boxes.real and boxes.instance.root is not None:
        for box in bad:
            label(box)
        pass_over(boxes)
        left = boxes.instance.root.parent / "state/io.containerd.runtime.v2.task" / bad[0].ctx.namespace
        until(lambda: not [box.id for box in bad if (left / box.id).exists()], "the end of the bundles")


def _runs(box):
    try:
        return box.status() is Status.RUNNING
    except NotFound:
        return False


@clause("RST-015", needs={"runc", "disk"})
def test_a_change_that_hangs_does_not_hold_up_those_beside_it(daemon, tmp_path):
    """Rejects: changes that are made one after the other."""
    program, hold = tmp_path / "never-ready", tmp_path / "hold"
    program.write_text(f"#!/bin/sh\nwhile [ -e {hold} ]; do sleep 0.05; done\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    hold.touch()
    boxes = daemon(every(1.5))
    try:
        wish = {"status": "running"}
        boxes.box(*LASTING, id="a-hangs", labels={**wish, "loguri": f"binary://{program}"})
        good = boxes.box(*LASTING, id="b-good", labels=wish)
        # Both were there before the second pass.
        running(good)
    finally:
        hold.unlink()


# ----------------------------------------------------------------------------------------------- what is started


@clause("RST-016")
def test_a_new_task_does_not_have_the_streams_of_the_old_one(boxes, tmp_path):
    """Rejects: fifos of a client that is gone, which nobody will ever open."""
    out = f"file://{tmp_path}/out"
    box = boxes.box(*LASTING)
    box.run(rootfs=(), io=IO(stdout=out, stderr=out))
    pid = box.get().pid
    assert box.get().io.stdout == out

    label(box, status="running")
    box.kill()
    running(box, instead_of=pid)

    assert box.get().io == IO()


@clause("RST-017", needs={"runc"})
def test_the_log_of_a_started_task_is_where_its_label_says(boxes, tmp_path):
    """Rejects: a log of one of the two streams."""
    log = tmp_path / "i.log"
    tmp_path.chmod(0o777)

    box = boxes.box(
        "sh", "-c", "echo hello; echo err >&2; sleep 1000", labels={"status": "running", "loguri": f"file://{log}"}
    )
    running(box)

    until(lambda: log.exists() and sorted(log.read_text().split()) == ["err", "hello"], "both lines in the log")
    assert box.get().io == IO(stdout=f"file://{log}", stderr=f"file://{log}")


@clause("RST-017", needs={"runc", "disk"})
def test_a_program_may_be_the_log(boxes, tmp_path):
    """Rejects: only files, or a program that does not get what its URI says."""
    tmp_path.chmod(0o777)
    program, log = tmp_path / "logger", tmp_path / "log"
    # Its standard input is what the task prints, 4 is the task's other stream and 5 says that it is ready.
    program.write_text('#!/bin/sh\nexec 5>&-\necho "$1 $2" >"$2"\ncat <&3 >>"$2"\n')
    program.chmod(0o755)

    box = boxes.box(
        "sh", "-c", "echo hello; sleep 1000", labels={"status": "running", "loguri": f"binary://{program}?to={log}"}
    )
    running(box)

    until(lambda: log.exists() and log.read_text() == f"to {log}\nhello\n", "the line in the program's log")


@clause("RST-018")
def test_a_log_that_is_no_uri_keeps_a_task_from_being_made(boxes):
    """Rejects: a task that runs, and whose output is lost."""
    told = boxes.listen()

    box = boxes.box(*LASTING, labels={"status": "running", "loguri": "%zz"})
    pass_over(boxes, 2)

    assert box.gone()
    assert box.id not in {opened(each).container_id for each in told() if each.topic == "/tasks/create"}


@clause("RST-019")
def test_a_log_path_is_taken_before_2_x_where_there_is_no_uri(boxes, tmp_path):
    """Rejects: the older label that wins."""
    tmp_path.chmod(0o777)
    alone, older, newer = (tmp_path / name for name in ("j.log", "k1.log", "k2.log"))
    talking = ("sh", "-c", "echo hello; sleep 1000")

    first = boxes.box(*talking, labels={"status": "running", "logpath": str(alone)})
    wish = {"status": "running", "logpath": str(older), "loguri": f"file://{newer}"}
    second = boxes.box(*talking, labels=wish)
    running(first)
    running(second)

    until(lambda: newer.exists() and newer.read_text() == "hello\n", "the line in the log of the URI")
    if is_next(boxes):
        assert not alone.exists()
    else:
        until(lambda: alone.exists() and alone.read_text() == "hello\n", "the line in the log of the path")
    assert not older.exists()


@clause("RST-020")
def test_a_terminal_is_given_since_2_x_and_only_with_a_log(boxes, tmp_path):
    """Rejects: a program that asks for a terminal, and is started without one."""
    program = tmp_path / "logger"
    program.write_text("#!/bin/sh\nexec 5>&-\ncat <&3 >/dev/null\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)

    mute = boxes.box(*LASTING, labels={"status": "running"}, terminal=True)
    logged = boxes.box(*LASTING, labels={"status": "running", "loguri": f"binary://{program}"}, terminal=True)
    if is_next(boxes):
        running(logged)
        assert logged.get().io.terminal
    pass_over(boxes)

    assert not _runs(mute)
    assert _runs(logged) == is_next(boxes)


@clause("RST-021")
def test_a_new_task_is_made_from_the_record_as_it_is_now(boxes):
    """Rejects: the old bundle, with the old program in it."""
    box = boxes.run("sh", "-c", "exit 5")
    box.wait()

    respec(box, "sh", "-c", "exit 6")
    label(box, status="running")

    def status():
        try:
            return box.get().exit_status
        except NotFound:
            return 0

    until(lambda: status() == 6, "the end of the new program")


@clause("RST-021", needs={"runc", "mount"})
def test_the_root_file_system_comes_from_the_snapshot_of_the_record(boxes, tmp_path):
    """Rejects: a task without the container's files."""
    tmp_path.chmod(0o777)
    log, snapshotter = tmp_path / "log", boxes.instance.snapshotter("overlayfs")
    key = "root-of-the-box"
    # Until the record of the container holds it, nothing else does, and the daemon has only just begun: it collects.
    mounts = snapshotter.prepare(boxes.ctx, key, labels=ROOTED)
    with boxes.instance.mounter.mounted(boxes.ctx, mounts) as fs:
        for name in ("bin", "proc", "dev"):
            fs.mkdir(f"/{name}")
        fs.write("/motd", b"welcome\n")
        if boxes.real:
            fs.write("/bin/busybox", (tree() / "bin/busybox").read_bytes(), 0o755)
            for applet in ("sh", "cat", "sleep"):
                fs.symlink("busybox", f"/bin/{applet}")

    box = boxes.box(
        "sh", "-c", "cat /motd; sleep 1000", snapshot=key, labels={"status": "running", "loguri": f"file://{log}"}
    )
    running(box)

    until(lambda: log.exists() and log.read_text() == "welcome\n", "the file of the snapshot, printed")


@clause("RST-022")
def test_a_task_outlives_the_record_of_its_container(boxes):
    """Rejects: a task that is killed because nothing wishes it any more."""
    box = boxes.box(*LASTING, labels={"status": "running"})
    pid = running(box)

    box.containers.delete(box.ctx, box.id)
    pass_over(boxes, 2)

    assert (box.id, pid, Status.RUNNING) in {(task.id, task.pid, task.status) for task in box.tasks.list(box.ctx)}


@clause("RST-023")
def test_1_6_does_not_know_the_labels_of_2_x(boxes):
    """Rejects: a policy that keeps a task from being started, or a count that is written."""
    if is_next(boxes):
        pytest.skip("2.x knows these labels")
    variants = [
        {"policy": "no"},
        {"policy": "on-failure:2"},
        {"policy": "bogus"},
        {"policy": "unless-stopped", "explicitly-stopped": "true"},
        {"policy": "on-failure", "count": "junk"},
    ]
    made = [boxes.box("true", labels={"status": "running", **labels}) for labels in variants]

    seen: dict[str, set[int]] = {box.id: set() for box in made}

    def all_restarted():
        for box in made:
            with_task = [task.pid for task in box.tasks.list(box.ctx) if task.id == box.id]
            seen[box.id].update(with_task)
        return all(len(pids) > 2 for pids in seen.values())

    until(all_restarted, "the third task of each", 3 * PATIENCE)
    assert [dict(box.containers.get(box.ctx, box.id).labels) for box in made] == [
        restart({"status": "running", **labels}) for labels in variants
    ]


@clause("RST-032")
def test_the_monitor_is_introduced(introspection, ctx):
    """Rejects: abilities of the next release, told by this one."""
    (plugin,) = introspection.plugins(ctx, ["id==restart"])

    assert plugin.init_err is None
    if plugin.type == "io.containerd.monitor.container.v1":
        assert sorted(plugin.capabilities) == ["always", "no", "on-failure", "unless-stopped"]
    else:
        assert plugin.uri == PLUGIN
        assert sorted(plugin.requires) == ["io.containerd.event.v1", "io.containerd.service.v1"]
        assert list(plugin.capabilities) == []
