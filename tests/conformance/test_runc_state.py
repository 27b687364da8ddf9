"""What runc keeps of a run's containers goes with the run, and nothing else goes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conformance import runc_state
from conformance.shim import processes
from conformance.shim.bundle import make_rootfs, spec
from conformance.shim.waiting import until


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of the machine's own one."""
    monkeypatch.setattr(runc_state, "ROOT", tmp_path / "runc")
    return tmp_path / "runc"


def test_the_state_of_a_namespace_of_the_run_goes_and_that_of_others_stays(states: Path) -> None:
    for name in (runc_state.HERE, runc_state.THERE, "default"):
        (states / name / "c").mkdir(parents=True)
    (states / runc_state.HERE / "c" / "state.json").write_text("nothing that runc could read")

    runc_state.forget(runc_state.HERE)
    runc_state.forget(runc_state.HERE)
    runc_state.forget("default")
    runc_state.forget(f"{runc_state.PREFIX}/../default")

    assert sorted(entry.name for entry in states.iterdir()) == sorted([runc_state.THERE, "default"])
    assert (states / "default" / "c").is_dir()


def test_empty_control_groups_of_the_namespace_go_in_every_hierarchy(
    states: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runc_state, "CGROUPS", tmp_path / "cgroup")
    for hierarchy in ("cpu", "memory", "."):
        for name in (runc_state.HERE, "default"):
            (tmp_path / "cgroup" / hierarchy / name / "c").mkdir(parents=True)
    # A group in which something is left cannot be removed, as little as a directory with a file.
    (tmp_path / "cgroup/memory" / runc_state.HERE / "d").touch()

    runc_state.forget(runc_state.HERE)

    groups = {str(path.relative_to(tmp_path / "cgroup")) for path in (tmp_path / "cgroup").rglob("*") if path.is_dir()}
    assert groups == {
        "cpu", "cpu/default", "cpu/default/c", "default", "default/c",
        "memory", "memory/default", "memory/default/c", f"memory/{runc_state.HERE}",
    }  # fmt: skip


def test_what_came_back_goes_at_the_end(states: Path) -> None:
    runc_state.forget(runc_state.HERE)
    (states / runc_state.HERE).mkdir(parents=True)
    (states / runc_state.THERE).mkdir()

    runc_state.forget_all()

    assert [entry.name for entry in states.iterdir()] == [runc_state.THERE]


@pytest.mark.root
@pytest.mark.debian("runc", "busybox")
def test_a_container_that_still_runs_is_ended(states: Path, tmp_path: Path) -> None:
    bundle, folder = tmp_path / "bundle", states / runc_state.HERE
    folder.mkdir(parents=True)
    make_rootfs(bundle / "rootfs")
    config = spec(("/bin/sleep", "1000"), f"/{runc_state.HERE}")
    (bundle / "config.json").write_text(json.dumps(config))
    command = ["runc", "--root", str(folder), "run", "--detach", "--bundle", str(bundle), "c"]
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
    )
    pid = json.loads((folder / "c" / "state.json").read_text())["init_process_pid"]
    assert processes.alive(pid)

    runc_state.forget(runc_state.HERE)

    assert until(lambda: not processes.alive(pid), 30.0)
    assert not folder.exists()
    # Not by a walk through all groups: those of other tests go while one walks.
    assert not [*runc_state.CGROUPS.glob(runc_state.HERE), *runc_state.CGROUPS.glob(f"*/{runc_state.HERE}")]
