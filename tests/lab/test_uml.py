"""The guest: what it sees, what it cannot touch, and that it leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import uml

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.debian(uml.COMMAND, "insmod")]

_LOOK = """
import os, sys
from pathlib import Path
controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
assert {"cpu", "io", "memory", "pids"} <= set(controllers), controllers
assert "overlay" in Path("/proc/filesystems").read_text().split()
assert Path("/tmp").is_mount() and Path("/run").is_mount() and os.geteuid() == 0
try:
    Path("/etc/of-the-guest").touch()
except OSError as error:
    print("the host's files:", error.strerror)
Path("/tmp/of-the-guest").touch()
Path("/run/lab/brought").write_text("from the guest")
sys.exit(7)
"""


def test_a_guest_has_one_cgroup_tree_and_its_own_places_and_brings_back_what_the_command_says(tmp_path: Path) -> None:
    outcome = uml.run(uml.python("-c", _LOOK), tmp_path)

    assert (outcome.code, outcome.output) == (7, "the host's files: Read-only file system\n"), outcome.console
    assert (tmp_path / "brought").read_text(encoding="ascii") == "from the guest"
    assert not Path("/etc/of-the-guest").exists()
    assert not Path("/tmp/of-the-guest").exists()


def test_a_file_of_the_host_is_a_disk_of_the_guest(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"written by the host\n".ljust(1 << 16, b"\0"))

    outcome = uml.run(["head", "-n", "1", "/dev/ubda"], tmp_path / "guest", disk=disk)

    assert (outcome.code, outcome.output) == (0, "written by the host\n"), outcome.console


def test_a_guest_that_takes_too_long_is_switched_off_and_leaves_no_process(tmp_path: Path) -> None:
    outcome = uml.run(["sh", "-c", "sleep 1000 & wait"], tmp_path, seconds=8)

    assert outcome.code is None
    assert "switched off after 8 s" in outcome.console
    assert uml.remaining(tmp_path) == []


def test_a_guest_whose_init_dies_is_no_answer(tmp_path: Path) -> None:
    outcome = uml.run(["sh", "-c", "kill -9 1; echo c >/proc/sysrq-trigger; sleep 1000"], tmp_path)

    assert outcome.code is None
    assert "anic" in outcome.console
    assert uml.remaining(tmp_path) == []
