"""Where groups are: on hosts of the first version, of the second, and of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refimpl.backends.real.cgroups import mounted
from refimpl.backends.real.cgroups.mounted import Hierarchy, groups, hierarchies, v1_directories
from refimpl.contract.errors import Unknown

HYBRID = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 22 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
34 31 0:31 / /mnt/with\\040blank rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""

OWN = """\
9:name=systemd:/user.slice
8:pids:/t/c
5:memory:/docker/abc/t/c
3:cpu,cpuacct:/a:b
0::/user.slice
"""


def test_each_controller_is_in_the_hierarchy_that_is_mounted_with_it() -> None:
    found = hierarchies(HYBRID)

    assert found == {
        "cpu": Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), "/"),
        "cpuacct": Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), "/"),
        "memory": Hierarchy(Path("/sys/fs/cgroup/memory"), "/docker/abc"),
        "pids": Hierarchy(Path("/mnt/with blank"), "/"),
        "": Hierarchy(Path("/sys/fs/cgroup/unified"), "/"),
    }


@pytest.mark.parametrize("odd", ["a\rb", "a\fb", "a\x85b", "\u65e5\\040\u672c", "\udcff\\011"])
def test_a_strange_mount_point_of_others_hinders_nobody(odd: str) -> None:
    assert hierarchies(f"35 22 0:40 / /mnt/{odd} rw - tmpfs tmpfs rw\n{HYBRID}") == hierarchies(HYBRID)


def test_each_controller_has_its_own_group() -> None:
    found = groups(OWN)

    assert found == {
        "name=systemd": "/user.slice",
        "pids": "/t/c",
        "memory": "/docker/abc/t/c",
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        "": "/user.slice",
    }
    assert groups("0::/a\rb\x85c\n") == {"": "/a\rb\x85c"}


@pytest.mark.parametrize(
    "root, group, directory",
    [
        ("/", "/a/b", "/m/a/b"),
        ("/", "/", "/m"),
        ("/docker/x", "/docker/x/a", "/m/a"),
        ("/docker/x", "/docker/x", "/m"),
        # In a namespace of its own a group is named from its root, whatever is mounted.
        ("/docker/x", "/a", "/m/a"),
    ],
)
def test_a_group_is_found_below_what_is_mounted(root: str, group: str, directory: str) -> None:
    assert Hierarchy(Path("/m"), root).directory(group) == Path(directory)


def test_without_the_first_version_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unified = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
    monkeypatch.setattr(mounted, "_read", lambda path: unified if "mountinfo" in path else "0::/x\n")

    with pytest.raises(Unknown, match="cgroups: cgroup mountpoint does not exist"):
        v1_directories(os.getpid())


def test_a_process_that_is_gone_has_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "hierarchies", lambda _table: hierarchies(HYBRID))

    with pytest.raises(Unknown, match="no such file"):
        v1_directories(2**22 + 1)
