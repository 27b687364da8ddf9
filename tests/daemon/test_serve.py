"""The daemon as a process: start, signals, stop, and what is left behind (DMN-001 to DMN-050)."""

from __future__ import annotations

import signal
import socket
import stat
from pathlib import Path

import pytest

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unavailable
from refimpl.contract.mounts import TemporaryMounts
from refimpl.daemon.serve import Daemon
from refimpl.kernel import Configuration
from tests.daemon.running import WAIT, answers, refused, serving, spawned

CTX = CallContext()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose sockets have short enough paths."""
    return tmp_path_factory.mktemp("d")


def test_a_life_from_start_to_stop(short: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(WAIT)
        notified.bind(str(short / "notify"))
        with spawned(short, env={"NOTIFY_SOCKET": str(short / "notify")}) as running:
            assert notified.recv(100) == b"READY=1"
            assert answers(running.socket), "ready means that a client can connect"
            log = running.until_logged("containerd successfully booted in ")
            order = [log.index(text) for text in ("c.sock.ttrpc\n", "c.sock\n", "successfully booted")]
            assert order == sorted(order), "ttrpc before gRPC before readiness"
            assert [mode(short / name) for name in ("c.sock", "c.sock.ttrpc")] == [0o660, 0o660]
            assert [mode(short / name) for name in ("root", "state")] == [0o700, 0o711]
            assert sorted(path.name for path in (short / "root").iterdir()) == ["tmpmounts"], (
                "fakes make no directories"
            )
            with Client(str(running.socket)) as client:
                assert client.health()
                assert len(client.introspection.plugins(CTX)) == 38
            status = running.stop()
            assert notified.recv(100) == b"STOPPING=1"
            assert status == 0
            assert not running.socket.exists()
            assert not (short / "c.sock.ttrpc").exists()
            assert (short / "out").read_bytes() == b""
            assert (short / "root").exists()


def test_interrupt_stops_like_terminate(short: Path) -> None:
    with serving(short) as running:
        assert running.stop(signal.SIGINT) == 0


def test_after_a_kill_the_next_start_replaces_the_sockets(short: Path) -> None:
    with serving(short) as running:
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert running.socket.exists()
    with serving(short) as running, Client(str(running.socket)) as client:
        assert client.health()


def test_a_second_daemon_on_the_socket_of_a_running_one_is_refused(short: Path) -> None:
    with serving(short) as running:
        other = short / "other"
        other.mkdir()
        status, said = refused(other, "--address", str(running.socket))
        assert status == 1
        assert "another daemon answers there" in said.splitlines()[-1]
        with Client(str(running.socket)) as client:
            assert client.health()


def test_what_the_system_refuses_is_told_without_pythons_numbers(short: Path) -> None:
    status, said = refused(short, "--root", str(short / ("x" * 300)))
    assert status == 1
    assert said.splitlines()[-1].startswith("refimpl: ")
    assert said.splitlines()[-1].endswith(": file name too long")
    assert "Errno" not in said


def test_a_backend_that_no_plugin_has_ends_the_start(short: Path) -> None:
    status, said = refused(short, "--backends", "reel")
    assert (status, said.splitlines()[-1]) == (
        1,
        'refimpl: no plugin has a backend "reel" (there are: fake, real, and auto)',
    )


def test_signals_that_do_not_stop(short: Path) -> None:
    (short / "config.toml").write_text(f'version = 2\ntemp = "{short / "t"}"\n')
    with serving(short, "--config", str(short / "config.toml")) as running:
        running.process.send_signal(signal.SIGPIPE)
        running.process.send_signal(signal.SIGUSR2)
        running.process.send_signal(signal.SIGUSR1)
        running.until_logged("stack dump written")
        assert "BEGIN goroutine stack dump" in running.log
        dumped = (short / "t" / f"containerd.{running.process.pid}.stacks.log").read_text()
        assert "[MainThread]" in dumped
        with Client(str(running.socket)) as client:
            assert client.health()
        assert running.stop(signal.SIGHUP) == -signal.SIGHUP, "there is no reload"


def test_open_streams_end_and_silent_connections_are_not_waited_for(short: Path) -> None:
    with serving(short) as running, Client(str(running.socket)) as client, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(running.socket))
        subscription = client.events.subscribe(CTX)
        # Neither of them ever ends by itself: a stop that waited for one would not come to an end.
        assert running.stop() == 0
        with pytest.raises(Unavailable):
            next(subscription)


def test_a_stop_as_soon_as_it_is_ready_is_a_clean_one(short: Path) -> None:
    with spawned(short) as running:
        running.until_logged("loading plugin")
        while not answers(running.socket):
            assert running.process.poll() is None
        assert running.stop() == 0


def test_a_start_that_blocks_can_be_broken_off_and_has_opened_nothing(short: Path) -> None:
    """Rejects: sockets that are open before the plugins are ready, and an init that no signal reaches."""
    (short / "plugins").mkdir()
    (short / "plugins/blocking.py").write_text(
        "import threading\n"
        "from refimpl.kernel import Registration, hookimpl\n"
        "@hookimpl\n"
        "def refimpl_registrations():\n"
        "    return [Registration('io.test.blocking.v1', 'x', init=lambda ic: threading.Event().wait())]\n"
    )
    (short / "config.toml").write_text(f'version = 2\nplugin_dir = "{short / "plugins"}"\n')
    with spawned(short, "--config", str(short / "config.toml")) as running:
        running.until_logged("io.test.blocking.v1.x")
        assert not running.socket.exists()
        assert not (short / "c.sock.ttrpc").exists()
        assert running.stop() == 1
        assert running.log.splitlines()[-1] == "refimpl: context canceled"


def test_two_daemons_side_by_side(short: Path) -> None:
    with serving(short) as first, Client(str(first.socket)) as one:
        (short / "b").mkdir()
        with serving(short / "b") as second, Client(str(second.socket)) as two:
            assert one.introspection.server(CTX).uuid != two.introspection.server(CTX).uuid


def test_flags_win_over_the_file(short: Path) -> None:
    (short / "config.toml").write_text(
        f'version = 2\nroot = "{short}/r1"\nstate = "{short}/s1"\nfoo = 1\n'
        f'[grpc]\naddress = "{short}/other.sock"\n[debug]\nlevel = "debug"\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\nzork = 1\n'
    )
    with serving(short, "--config", str(short / "config.toml"), "-l", "info") as running:
        names = {path.name for path in short.iterdir()}
        assert {"root", "state", "c.sock", "c.sock.ttrpc"} <= names
        assert not names & {"r1", "s1", "other.sock"}
        assert "level=debug" not in running.log
        assert f'msg="Ignoring unknown key in TOML" file={short}/config.toml key=foo row=4' in running.log
        warning = [line for line in running.log.splitlines() if "Ignoring unknown key in TOML for plugin" in line]
        assert ["key=zork plugin=io.containerd.gc.v1.scheduler row=10" in line for line in warning] == [True]


@pytest.mark.parametrize(
    "text,said",
    [
        ("foo = 1", "config.toml:2: foo: unknown key"),
        (
            '[plugins."io.containerd.gc.v1.scheduler"]\nzork = 1',
            'config.toml:3: plugins."io.containerd.gc.v1.scheduler".zork: unknown key',
        ),
    ],
)
def test_strict_means_that_unknown_keys_are_refused(short: Path, text: str, said: str) -> None:
    (short / "config.toml").write_text(f"version = 2\n{text}\n")
    status, error = refused(short, "--strict-config", "--config", str(short / "config.toml"))
    assert status == 1
    assert error.splitlines()[-1] == f"refimpl: {short}/{said}"


def test_a_file_without_a_version_is_version_1_and_deprecated(short: Path) -> None:
    (short / "config.toml").write_text("")
    with serving(short, "--config", str(short / "config.toml")) as running:
        assert "config version `1` has been deprecated" in running.log


def test_a_user_without_rights_needs_no_directories_for_fakes(short: Path) -> None:
    """Rejects: a fake daemon that wants to make containerd's own directories."""
    assert not Daemon(Configuration(), "fake")._keeps_state()
    assert Daemon(Configuration(), "auto")._keeps_state()
    assert Daemon(Configuration(root=str(short)), "fake")._keeps_state()


def test_temporary_mounts_are_made_where_the_next_start_looks_for_them(short: Path) -> None:
    daemon = Daemon(Configuration(root=str(short / "r"), state=str(short / "s")), "fake")
    daemon.boot()
    try:
        assert daemon.world[TemporaryMounts] == TemporaryMounts(str(short / "r/tmpmounts"))
    finally:
        daemon.stop()


def test_the_start_imports_nothing_that_it_does_not_need(short: Path) -> None:
    """The start has half a second: rich, prometheus_client and pytest alone would cost a quarter of it."""
    with serving(short, env={"PYTHONPROFILEIMPORTTIME": "1"}) as running:
        names = [line.rpartition("|")[2].strip() for line in running.log.splitlines() if "|" in line]
    imported = {name.partition(".")[0] for name in names}
    assert "grpc" in imported
    assert not imported & {
        "rich",
        "prometheus_client",
        "pytest",
        "_pytest",
        "hypothesis",
        "http",
        "tomli_w",
        "pyfakefs",
    }


def test_the_memory_of_a_daemon_at_rest_is_bounded(short: Path) -> None:
    with serving(short) as running:
        status = Path(f"/proc/{running.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 120 * 1024


def test_many_waiting_calls_hold_up_nobody(short: Path) -> None:
    with serving(short) as running, Client(str(running.socket)) as client:
        waiting = [client.events.subscribe(CTX) for _ in range(200)]
        # Bounded by the client's own patience.
        assert client.health()
        assert running.stop() == 0
        for subscription in waiting:
            subscription.close()
