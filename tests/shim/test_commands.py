"""The commands ``start`` and ``delete``, and what they are made of: flags, addresses, and a little protobuf."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import uuid
from hashlib import sha256
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as Packed
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.api import runc_v1_pb2, typeurl
from refimpl.api.task_v2_pb2 import DeleteResponse
from refimpl.shim.address import listen, record_address, socket_path
from refimpl.shim.flags import Flags, UsageError, usage
from refimpl.shim.main import main
from refimpl.shim.wire import delete_response, texts

PROGRAM = "import sys; from refimpl.shim.main import main; sys.exit(main())"
LIST = "import sys; import {0}; print(*sorted(sys.modules))"


# --- flags


def test_flags_are_read_in_all_forms_of_go() -> None:
    flags = Flags(["-namespace", "n", "--address=/a", "-id", "c", "-debug", "-bundle", "", "start", "-v"])

    assert (flags.namespace, flags.address, flags.id, flags.bundle) == ("n", "/a", "c", "")
    assert (flags.debug, flags.version, flags.action) == (True, False, "start")
    assert Flags(["-debug=false", "--", "delete"]).debug is False
    assert Flags(["--", "delete"]).action == "delete"
    assert Flags([]).action == ""


@pytest.mark.parametrize("words", [["-foo"], ["-id"], ["--foo=1"]])
def test_flags_that_are_none_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        Flags(words)


def test_the_usage_names_every_flag() -> None:
    text = usage("shim")
    for name in ("namespace", "id", "address", "publish-binary", "bundle", "socket", "debug", "v"):
        assert f"  -{name}" in text


def test_the_exit_status_says_what_was_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-foo"]) == 2
    assert main(["-id", "x", "start"]) == 1
    assert main(["-v"]) == 0
    out, error = capfd.readouterr()
    assert "Version:" in out
    assert "namespace cannot be empty" in error


# --- addresses


def test_the_socket_is_named_after_daemon_namespace_and_group() -> None:
    digest = sha256(b"/x/c.sock/n/g").hexdigest()
    assert socket_path("/x/c.sock", "n", "g") == f"/run/containerd/s/{digest}"
    assert socket_path("//x/./c.sock", "n", "g") == f"/run/containerd/s/{digest}"
    assert socket_path("", "n", "g") == f"/run/containerd/s/{sha256(b'n/g').hexdigest()}"


def test_a_live_socket_is_left_alone_and_a_stale_one_replaced(short: Path) -> None:
    path = short / "d" / "s"
    first = listen(str(path))
    assert first is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert listen(str(path)) is None

    first.close()
    second = listen(str(path))

    assert second is not None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.close()
    with pytest.raises(OSError, match="too long"):
        listen(str(short / ("x" * 120)))


def test_an_address_is_recorded_whole(tmp_path: Path) -> None:
    record_address(str(tmp_path), "unix:///x")
    record_address(str(tmp_path), "unix:///y")
    assert [entry.name for entry in tmp_path.iterdir()] == ["address"]
    assert (tmp_path / "address").read_text() == "unix:///y"


# --- protobuf by hand


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**62))
def test_a_delete_response_is_what_protobuf_makes_of_it(pid: int, status: int, at: int) -> None:
    expected = DeleteResponse(pid=pid, exit_status=status)
    expected.exited_at.FromNanoseconds(at)
    assert delete_response(pid, status, at) == expected.SerializeToString()


@settings(deadline=None)
@given(st.text(), st.text(), st.integers(0, 2**32 - 1))
def test_options_are_read_as_protobuf_wrote_them(cgroup: str, root: str, uid: int) -> None:
    options = runc_v1_pb2.Options(shim_cgroup=cgroup, root=root, io_uid=uid, no_pivot_root=True)
    found = texts(typeurl.pack(options).SerializeToString())
    assert found[1] == b"containerd.runc.v1.Options"
    assert texts(found.get(2, b"")).get(3, b"").decode() == cgroup


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_refused_and_no_worse(data: bytes) -> None:
    try:
        found = texts(data)
    except ValueError:
        return
    assert all(isinstance(value, bytes) for value in found.values())


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\xff\xff", b"\x0d\x01", b"\x0b"])
def test_a_message_that_is_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"end of|wire type"):
        texts(data)


# --- commands


def _run(bundle: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-c", PROGRAM, "-namespace", "n", "-address", "/nowhere/c.sock", "-id", "c", *words]
    return subprocess.run(argv, cwd=bundle, input=stdin, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "config, stdin, reason",
    [
        (None, b"", "config.json"),
        ("no json", b"", "config.json"),
        ("[]", b"", "config.json"),
        ("{}", b"\xff", "options cannot be read"),
        (
            "{}",
            typeurl.pack(runc_v1_pb2.Options(shim_cgroup="/no/such/cgroup")).SerializeToString(),
            "failed to load cgroup /no/such/cgroup",
        ),
    ],
)
def test_a_start_that_cannot_be_changes_nothing(tmp_path: Path, config: str | None, stdin: bytes, reason: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = sorted(tmp_path.iterdir())

    done = _run(tmp_path, "start", stdin=stdin)

    assert (done.returncode, done.stdout) == (1, b""), done
    assert reason in done.stderr.decode()
    assert sorted(tmp_path.iterdir()) == before


def _runtime(tmp_path: Path, script: str) -> None:
    runtime = tmp_path / "oci"
    runtime.write_text(f"#!/bin/sh\n{script}\n")
    runtime.chmod(0o755)
    (tmp_path / "options.json").write_text(f'{{"binary_name": "{runtime}", "root": "/r", "systemd_cgroup": true}}')


def test_a_delete_runs_the_runtime_of_the_container_and_says_137(tmp_path: Path) -> None:
    _runtime(tmp_path, f'echo "$@" >{tmp_path}/used')
    (tmp_path / "init.pid").write_text("4242")

    done = _run(tmp_path, "-bundle", str(tmp_path), "delete")

    answer = DeleteResponse.FromString(done.stdout)
    assert (done.returncode, answer.pid, answer.exit_status) == (0, 4242, 137)
    used = (tmp_path / "used").read_text().split()
    assert used[:2] == ["--root", "/r/n"]
    assert used[-4:] == ["--systemd-cgroup", "delete", "--force", "c"]


def test_a_delete_goes_on_when_the_runtime_fails(tmp_path: Path) -> None:
    _runtime(tmp_path, "echo no >&2; exit 3")

    done = _run(tmp_path, "delete")

    assert (done.returncode, DeleteResponse.FromString(done.stdout).exit_status) == (0, 137)
    assert b"exit status 3: no" in done.stderr


@pytest.mark.parametrize("options", ["no json", "[]"])
def test_a_delete_fails_where_nobody_knows_which_runtime_has_the_container(tmp_path: Path, options: str) -> None:
    (tmp_path / "options.json").write_text(options)
    done = _run(tmp_path, "delete")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"options of c" in done.stderr


@pytest.mark.root
def test_a_delete_removes_the_socket_of_a_shim_that_was_killed_and_no_other(tmp_path: Path) -> None:
    _runtime(tmp_path, "exit 0")
    path = socket_path("/nowhere", "n", uuid.uuid4().hex)
    record_address(str(tmp_path), f"unix://{path}")
    listener = listen(path)
    assert listener is not None
    try:
        assert _run(tmp_path, "delete").returncode == 0
        assert Path(path).exists(), "somebody serves there"
        listener.close()
        assert _run(tmp_path, "delete").returncode == 0
        assert not Path(path).exists()
    finally:
        Path(path).unlink(missing_ok=True)

    other = tmp_path / "file"
    other.touch()
    record_address(str(tmp_path), f"unix://{other}")
    assert _run(tmp_path, "delete").returncode == 0
    assert other.exists()


# --- what is loaded


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("refimpl.shim.start", {"google.protobuf", "logging", "subprocess", "dataclasses", "pathlib"}),
        ("refimpl.shim.delete", {"google.protobuf", "logging", "subprocess", "dataclasses", "pathlib"}),
        (
            "refimpl.shim.serve",
            {"subprocess", "pathlib", "tempfile", "shutil", "asyncio", "grpc", "pluggy", "hashlib", "tomllib",
             "concurrent.futures", "refimpl.kernel", "refimpl.api.cgroups_v1_pb2", "refimpl.api.cgroups_v2_pb2",
             "refimpl.api.runc_v1_pb2", "refimpl.api.typeurl", "refimpl.linux.mounting"},
        ),
        # Nearly every shim mounts a root file system, and few of them one that a program has to mount.
        ("refimpl.linux.mounting", {"subprocess", "pathlib", "shutil", "lzma"}),
    ],
)  # fmt: skip
def test_a_shim_loads_what_it_needs_and_no_more(module: str, unwanted: set[str]) -> None:
    """There is one process of these per container."""
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {LIST.format(module)}"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()  # fmt: skip

    assert module in loaded
    assert unwanted & set(loaded) == set()


def test_an_any_without_a_value_names_no_cgroup() -> None:
    assert texts(Packed(type_url="x").SerializeToString()) == {1: b"x"}
