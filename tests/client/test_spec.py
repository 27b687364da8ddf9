"""The spec of a container: what ``ctr`` makes of the same image, and what was wished."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest

from refimpl.client import Client
from refimpl.client.privileged import privileged
from refimpl.client.pull import pull
from refimpl.client.registry import Reference, Registry
from refimpl.client.running import create, remove, signal_of
from refimpl.client.spec import Wishes, merged, parse_mount, process_of, spec_of
from refimpl.client.users import User
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument
from refimpl.testing import fake_containerd
from tests.acceptance import daemons, images
from tests.client.registry import serving, tar

CONFIG = {"Env": ["PATH=/bin", "LANG=C"], "Cmd": ["serve", "--all"], "WorkingDir": "/srv"}


def made(config: dict[str, Any] = CONFIG, **wishes: Any) -> dict[str, Any]:
    return spec_of("ns", "web", config, User(), Wishes(**wishes))


@pytest.mark.root
@pytest.mark.debian("containerd", "ctr", "busybox")
@pytest.mark.parametrize("daemon", ["containerd"], indirect=True)
@pytest.mark.parametrize(
    "words,wishes",
    [
        ("", {}),
        ("--net-host", {"host_network": True}),
        ("--read-only --cwd /tmp --env A=b", {"read_only": True, "cwd": "/tmp", "env": ["HOSTNAME=x", "A=b"]}),
        ("--memory-limit 50000000", {"memory": 50_000_000}),
        ("--privileged", {"privileged": True}),
        ("--privileged --net-host --read-only", {"privileged": True, "host_network": True, "read_only": True}),
        (
            "--mount type=bind,src=/tmp,dst=/mnt,options=rbind:ro",
            {"mounts": [parse_mount("type=bind,src=/tmp,dst=/mnt,options=rbind:ro")]},
        ),
    ],
)
def test_it_is_that_of_ctr(
    daemon: daemons.Daemon,
    client: Client,
    ctx: CallContext,
    archives: images.Images,
    words: str,
    wishes: dict[str, Any],
) -> None:
    assert daemon.ctr("-n", ctx.namespace, "images", "import", str(archives.programs)).code == 0
    theirs = ("containers", "create", *shlex.split(words), images.PROGRAMS_NAME, "theirs", "true")
    done = daemon.ctr("-n", ctx.namespace, *theirs)
    assert done.code == 0, done.stderr
    asked = Wishes(args=["true"], **wishes)
    create(ctx, client, "ours", images.PROGRAMS_NAME, asked, snapshotter="overlayfs", runtime="io.containerd.runc.v2")

    ours, other = (client.containers.get(ctx, id) for id in ("ours", "theirs"))
    assert comparable(ours.spec) == comparable(other.spec)
    assert ours.spec is not None
    assert other.spec is not None
    assert ours.spec.type_url == other.spec.type_url
    kept = ("image", "snapshotter", "labels")
    assert [getattr(ours, name) for name in kept] == [getattr(other, name) for name in kept]
    assert ours.runtime.name == other.runtime.name
    for id in ("ours", "theirs"):
        remove(ctx, client, id)


def comparable(spec: Any) -> Any:
    """A spec without what has to differ.

    That is the id, the host's name, which ctr tells to containers in its network, and the share of the CPU, which is
    in a spec of ``ctr run`` and not in one of ``ctr containers create``.
    """
    document = json.loads(spec.value)
    document["linux"]["cgroupsPath"] = document["linux"]["cgroupsPath"].rpartition("/")[0]
    document["linux"]["resources"].pop("cpu", None)
    # Each has its own order, which means nothing.
    document["linux"].get("devices", []).sort(key=lambda device: device["path"])
    document["process"]["env"] = [one for one in document["process"]["env"] if not one.startswith("HOSTNAME=")]
    return document


def test_the_entry_point_comes_before_either_command() -> None:
    config = {**CONFIG, "Entrypoint": ["/init"]}

    assert made(config)["process"]["args"] == ["/init", "serve", "--all"]
    assert made(config, args=["debug"])["process"]["args"] == ["/init", "debug"]
    with pytest.raises(InvalidArgument, match="names no command"):
        made({})


def test_labels_that_no_record_can_hold_stay_behind() -> None:
    config: dict[str, Any] = {"Labels": {"team": "blue", "poem": "x" * 5000}, "StopSignal": "SIGQUIT"}

    with fake_containerd() as fake:
        with serving() as registry:
            ref = registry.name(registry.image([tar({"a": b"a"})], Cmd=["a"], **config))
            pull(fake.ctx, fake.client, Registry(Reference.parse(ref)))
        made = create(
            fake.ctx, fake.client, "web", ref, Wishes(labels={"a": "b"}), snapshotter="native", runtime="r.v1"
        )

    assert made.labels == {"team": "blue", "io.containerd.image.config.stop-signal": "SIGQUIT", "a": "b"}


def test_cpus_are_a_quota_of_time() -> None:
    assert made(cpus=0.5)["linux"]["resources"]["cpu"] == {"shares": 1024, "quota": 50_000, "period": 100_000}
    assert made()["linux"]["resources"]["cpu"] == {"shares": 1024}


def test_devices_are_found_where_they_are_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "event0").write_text("no device")
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "initctl")
    assert privileged(made(), tmp_path)["linux"]["devices"] == []


@pytest.mark.root
def test_a_device_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    for place, kind, mode, numbers in (
        ("input/b", stat.S_IFBLK, 0o640, (7, 3)),
        ("a", stat.S_IFCHR, 0o666, (1, 300)),
        ("console", stat.S_IFCHR, 0o600, (5, 1)),
    ):
        os.mknod(tmp_path / place, kind, os.makedev(*numbers))
        (tmp_path / place).chmod(mode)
        os.chown(tmp_path / place, 0, 6)

    assert privileged(made(), tmp_path)["linux"]["devices"] == [
        {"path": f"{tmp_path}/a", "type": "c", "major": 1, "minor": 300, "fileMode": 0o666, "uid": 0, "gid": 6},
        {"path": f"{tmp_path}/input/b", "type": "b", "major": 7, "minor": 3, "fileMode": 0o640, "uid": 0, "gid": 6},
    ]


def test_a_later_variable_takes_an_earlier_ones_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "value")
    monkeypatch.delenv("UNSET", raising=False)

    assert made(env=["LANG=de", "OURS", "UNSET"], terminal=True)["process"]["env"] == [
        "PATH=/bin",
        "LANG=de",
        "TERM=xterm",
        "OURS=value",
    ]
    assert made({"Cmd": ["x"]})["process"]["env"][0].startswith("PATH=/usr/local/sbin:")
    with pytest.raises(InvalidArgument, match="has no name"):
        merged(["=x"])


def test_an_exec_is_the_containers_process_with_another_command() -> None:
    spec = made(args=["web"], env=["A=1"])

    process = process_of(spec, ["sh", "-c", "x"], User(5, 6, ()), Wishes(env=["A=2"], cwd="/tmp"))

    expected = {**spec["process"], "args": ["sh", "-c", "x"], "terminal": False, "cwd": "/tmp"}
    expected |= {"user": {"uid": 5, "gid": 6}, "env": ["PATH=/bin", "LANG=C", "A=2"]}
    assert process == expected
    assert process_of(spec, ["x"], None, Wishes())["user"] == spec["process"]["user"]
    with pytest.raises(InvalidArgument, match="no process"):
        process_of({}, ["x"], None, Wishes())


@pytest.mark.parametrize("text", ["type=bind,src=/a", "bind", "type=bind,dst=/a,colour=blue", "options"])
def test_a_mount_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="mount"):
        parse_mount(text)


def test_signals_have_names_and_numbers() -> None:
    assert [signal_of(text) for text in ("TERM", "sigkill", "10")] == [15, 9, 10]
    for text in ("", "NONE", "0", "400", "SIG_DFL"):
        with pytest.raises(InvalidArgument, match="signal"):
            signal_of(text)
