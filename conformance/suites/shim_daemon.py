"""Shims, the daemon's side: which binary it runs, how, and what it makes of the answer (SHM-001 to 011, 038 to 045).

The conversation with a shim that serves is in ``shim_talk``, bundles on disk in ``shim_bundles``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance import clause
from conformance.shim import processes
from conformance.shim.waiting import until
from conformance.suites._events import listen, opened
from conformance.suites._shim_daemon import (
    DAEMON,
    OWN,
    own_world,
    world,
)
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, NotFound, Unknown
from refimpl.contract.types import TypedAny

_NO_2X = "the shims of containerd 2.x speak otherwise, and no daemon of that version was there to hold a check against"

NO_CHECK: dict[str, str] = dict.fromkeys(("SHM-092", "SHM-093", "SHM-094", "SHM-095", "SHM-096"), _NO_2X)


@clause("SHM-001", needs=OWN)
def test_the_last_two_parts_of_a_runtimes_name_name_the_binary(own_world, monkeypatch, tmp_path):
    """Rejects: the first two parts; a name of one part that is made into something."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    world = own_world()
    shim = world.shim("containerd-shim-fake-v7")
    (tmp_path / "containerd-shim-fake-v7").symlink_to(shim.binary)

    for name in ("io.containerd.fake.v7", "x.y.z.fake.v7"):
        id = world.container(name)
        world.create(id)
        world.delete(id)

    starts = [one["argv"] for one in shim.record() if one["argv"][-1] == "start"]
    assert [argv[0] for argv in starts] == [str(tmp_path / "containerd-shim-fake-v7")] * 2
    with pytest.raises(Unknown, match="nodots"):
        world.create(world.container("nodots"))


@clause("SHM-002", needs=OWN)
def test_a_binary_is_looked_up_once_beside_the_daemon_and_on_its_path(own_world, monkeypatch, tmp_path):
    """Rejects: a look at PATH alone; a new look for each create."""
    places = {name: tmp_path / name for name in ("path", "cwd")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setenv("PATH", f"{places['path']}:{os.environ['PATH']}")
    monkeypatch.chdir(places["cwd"])
    world = own_world()
    shims = {}
    for place, name in (("path", "containerd-shim-fake-v7"), ("cwd", "containerd-shim-fake-v8")):
        shims[place] = world.shim(name)
        (places[place] / name).symlink_to(shims[place].binary)

    for name, place in (("io.containerd.fake.v7", "path"), ("io.containerd.fake.v8", "cwd")):
        world.create(world.container(name))
        assert shims[place].record()[0]["argv"][0] == str(places[place] / shims[place].binary.name)

    old = places["path"] / "containerd-shim-fake-v7"
    old.rename(places["cwd"] / old.name)
    with pytest.raises(Unknown, match=str(old)):
        world.create(world.container("io.containerd.fake.v7"))


@clause("SHM-003", needs=DAEMON)
@pytest.mark.parametrize("name", ["io.containerd.nosuch.v9", "/no/such/bin"])
def test_a_shim_that_is_not_there_fails_the_create_and_leaves_nothing(world, name):
    """Rejects: a bundle that stays, over which the next create falls."""
    id = world.container(name)

    with pytest.raises(Unknown, match="failed to resolve runtime path"):
        world.create(id)

    assert not world.bundle(id).exists()
    assert not world.work(id).exists()


@clause("SHM-004", needs=OWN)
def test_a_relative_path_is_no_runtime(own_world, monkeypatch, tmp_path):
    """Rejects: the execution of whatever lies below the daemon's working directory."""
    monkeypatch.chdir(tmp_path)
    world = own_world()
    if world.instance.identity().version.lstrip("v").startswith("1."):
        pytest.skip("the clause is of 2.x; this is an earlier daemon")
    shim = world.shim("containerd-shim-fake-v9")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "containerd-shim-fake-v9").symlink_to(shim.binary)

    for name in ("./runc.v2", "sub/x.fake.v9"):
        with pytest.raises(Unknown, match="invalid runtime name"):
            world.create(world.container(name))
    assert shim.record() == []


@clause("SHM-005", needs=OWN)
@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_start_command_has_its_arguments_in_order(own_world, level):
    """Rejects: the action before the flags; -debug at any level."""
    world = own_world(f'[debug]\nlevel = "{level}"\n')
    shim = world.shim()
    id = world.made(shim)

    (start,) = shim.record()
    argv = start["argv"]
    assert argv[:4] == [str(shim.binary), "-namespace", world.ctx.namespace, "-address"]
    assert argv[4] == world.instance.address
    assert argv[5] == "-publish-binary"
    assert Path(argv[6]).is_absolute()
    assert os.access(argv[6], os.X_OK)
    # What the command line of the daemon says counts before its configuration: its own log tells what holds.
    debug = "level=debug" in world.instance.log()
    assert debug or level == "info"
    assert argv[7:] == ["-id", id, *(["-debug"] if debug else []), "start"]


@clause("SHM-006", needs=DAEMON)
def test_start_runs_in_the_bundle_as_a_group_of_its_own(world):
    """Rejects: another working directory, the daemon's process group, a shim that is not told where events go."""
    shim = world.shim()
    id = world.made(shim)

    (start,) = shim.record()
    assert start["cwd"] == str(world.bundle(id))
    assert start["listing"] == ["config.json", "log", "rootfs", "work"]
    assert start["group"] == start["pid"]
    assert start["environment"]["TTRPC_ADDRESS"] == f"{world.instance.address}.ttrpc"
    assert start["environment"]["GOMAXPROCS"] == "2"
    assert start["environment"]["PATH"]


@clause("SHM-007", needs=DAEMON)
def test_runtime_options_come_on_standard_input(world):
    """Rejects: the value without its type; options that are lost."""
    shim = world.shim()
    world.made(shim, options=TypedAny("containerd.runc.v1.Options", b"\x32\x04runc"))
    world.made(shim)

    with_options, without = (one["stdin"] for one in shim.record())

    assert with_options == "0a1a" + b"containerd.runc.v1.Options".hex() + "1206" + "320472756e63"
    assert without == ""


@clause("SHM-008", needs=DAEMON)
def test_white_space_around_the_address_does_not_matter(world):
    """Rejects: an address with its newline."""
    shim = world.shim()
    shim.plan("start", out=f"  unix://{shim.path}\n".encode())

    id = world.made(shim)

    assert world.there(id)


@clause("SHM-008", needs=DAEMON)
def test_noise_on_either_stream_spoils_the_address(world):
    """Rejects: a look at standard output alone."""
    shim = world.shim()
    shim.plan("start", out=f"unix://{shim.path}".encode(), err=b"noise")
    id = world.container(shim)

    with pytest.raises(Unknown):
        world.create(id)

    assert not world.bundle(id).exists()


@clause("SHM-009", needs=DAEMON)
def test_a_start_that_fails_tells_why(world, listen):
    """Rejects: an output that is swallowed; a clean-up command for what never ran."""
    shim = world.shim()
    shim.plan("start", out=b"boom on out", err=b"boom on err", status=3)
    id = world.container(shim)
    ear = listen('topic~="/tasks/"')

    with pytest.raises(Unknown) as caught:
        world.create(id)

    text = str(caught.value)
    assert "boom on out" in text
    assert "boom on err" in text
    assert "exit status 3" in text
    assert not world.bundle(id).exists()
    assert not world.work(id).exists()
    assert shim.actions() == ["start"]
    assert ear.topics() == []


@clause("SHM-010", needs=DAEMON)
@pytest.mark.parametrize("answer", [b"unix:///no/such/sock", b""], ids=["nobody there", "nothing"])
def test_an_address_where_nobody_listens_fails_the_create_at_once(world, answer):
    """Rejects: a create that waits for somebody to listen."""
    shim = world.shim()
    shim.plan("start", out=answer)
    id = world.container(shim)

    with pytest.raises(Unknown):
        world.create(id)

    assert not world.bundle(id).exists()


@clause("SHM-011", needs=DAEMON)
def test_a_create_that_is_given_up_ends_the_start_command(world):
    """Rejects: a start command that runs on for nobody."""
    shim = world.shim()
    shim.plan("start", sleep=100.0)
    id = world.container(shim)
    for seconds in (1.0, 5.0, 25.0):
        with pytest.raises(DeadlineExceeded):
            world.create(id, seconds=seconds)
        # On a busy machine the command may not even have begun: then more time is given.
        if shim.record():
            break

    (start,) = shim.record()
    assert until(lambda: not processes.alive(start["pid"])), "the start command still runs"
    assert until(lambda: not world.bundle(id).exists())


@clause("SHM-038", needs=OWN)
@pytest.mark.parametrize("wanted", [False, True], ids=["by default", "switched on"])
def test_core_scheduling_is_asked_for_when_it_is_configured(own_world, wanted):
    """Rejects: a shim that is told always, or never."""
    config = '[plugins."io.containerd.runtime.v2.task"]\nsched_core = true\n' if wanted else ""
    world = own_world(config)
    shim = world.shim()
    world.made(shim)

    environment = shim.record()[0]["environment"]
    if wanted and world.instance.identity().version.lstrip("v").startswith("2."):
        pytest.skip("2.x has another setting for it")
    assert environment.get("SCHED_CORE", "") == ("1" if wanted else "")


@clause("SHM-039", needs=("shim", "config"))
def test_platforms_of_the_runtime_come_from_the_configuration(own):
    """Rejects: the host's platform, whatever the configuration says."""
    instance = own(config='[plugins."io.containerd.runtime.v2.task"]\nplatforms = ["linux/amd64", "linux/arm64/v8"]\n')

    plugins = instance.introspection.plugins(CallContext(), ['type=="io.containerd.runtime.v2"'])
    found = {(p.os, p.architecture, p.variant) for plugin in plugins if plugin.id == "task" for p in plugin.platforms}

    assert found == {("linux", "amd64", ""), ("linux", "arm64", "v8")}


@clause("SHM-040", needs=DAEMON)
def test_the_delete_command_has_its_arguments_in_order(world):
    """Rejects: a delete that is not told which bundle, or that reads the options again."""
    shim = world.shim()
    id = world.made(shim, options=TypedAny("containerd.runc.v1.Options", b"\x32\x04runc"))
    shim.cut()
    assert until(lambda: shim.actions() == ["start", "delete"]), shim.actions()

    start, delete = shim.record()
    # Whatever the daemon's level of logging: 1.6 never passes -debug here, 2.x does.
    given, wanted = ([word for word in one["argv"][:-1] if word != "-debug"] for one in (delete, start))
    assert given == [*wanted, "-bundle", str(world.bundle(id))]
    assert delete["cwd"] == str(world.bundle(id))
    assert delete["stdin"] == ""
    assert delete["environment"]["TTRPC_ADDRESS"] == start["environment"]["TTRPC_ADDRESS"]


@clause("SHM-041", "SHM-054", needs=DAEMON)
def test_a_task_that_is_deleted_has_its_shim_shut_down_and_cleaned(world):
    """Rejects: the values of the delete command for those of the shim; a shim that is left alone."""
    shim = world.shim()
    id = world.started(shim)

    ended = world.delete(id)

    assert (ended.pid, ended.status) == (shim.pid, 5)
    assert until(lambda: shim.actions() == ["start", "delete"]), shim.actions()
    assert [name for name in shim.methods() if name in ("Delete", "Shutdown")] == ["Delete", "Shutdown"]
    assert until(lambda: not world.bundle(id).exists())
    with pytest.raises(NotFound):
        world.tasks.get(world.ctx, id)


@clause("SHM-045", needs=DAEMON)
@pytest.mark.parametrize("plan", [{"status": 5}, {"out": b"words for people"}], ids=["fails", "does not parse"])
def test_a_delete_command_that_fails_keeps_the_bundle(world, listen, plan):
    """Rejects: a bundle that is removed although its processes may still run."""
    shim = world.shim()
    id = world.started(shim)
    ear = listen('topic~="/tasks/"')
    shim.plan("delete", **plan)
    shim.cut()

    heard = ear.until("/tasks/delete")

    assert world.forgotten(id)
    assert world.bundle(id).exists()
    told = [(one.topic, opened(one).pid, opened(one).exit_status) for one in heard]
    assert told == [("/tasks/exit", 0, 255), ("/tasks/delete", 0, 255)]
