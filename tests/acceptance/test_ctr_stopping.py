"""However refimpl's daemon is ended, nothing of it is left that keeps the next one from starting."""

import select
import signal
import time

import pytest

from tests.acceptance import daemons, images

pytestmark = pytest.mark.debian("ctr")

either_signal = pytest.mark.parametrize(
    "how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name
)


@either_signal
def test_no_process_of_a_stopped_daemon_is_left_and_the_next_one_starts(
    how: signal.Signals, fake: daemons.Daemon, archives: images.Images
) -> None:
    fake.start()
    assert fake.session(), "the way to find left-over processes finds the running one"
    assert fake.ctr("images", "import", str(archives.oci)).code == 0

    code = fake.stop(how)

    assert code == (-how if how is signal.SIGKILL else 0), fake.log
    assert fake.session() == []
    assert not fake.answers()
    with daemons.running(fake):
        assert fake.ctr("version").code == 0


@either_signal
def test_a_daemon_ends_while_a_client_waits_for_events(how: signal.Signals, fake: daemons.Daemon) -> None:
    fake.start()
    with fake.background("events") as client:
        try:
            assert client.stdout is not None
            deadline = time.monotonic() + daemons.COMMAND_SECONDS
            while not select.select([client.stdout], [], [], 0.1)[0]:
                assert time.monotonic() < deadline, "the client hears of nothing"
                assert fake.ctr("namespaces", "label", "busy", f"at={time.monotonic()}").code == 0
        finally:
            fake.stop(how)
        # The stream ends with the daemon, and the client sees that.
        assert client.wait(daemons.STOP_SECONDS) != 0
    assert fake.session() == []


@either_signal
def test_a_daemon_ends_in_the_middle_of_an_ingest(how: signal.Signals, fake: daemons.Daemon) -> None:
    fake.start()
    with fake.background("content", "ingest", "--expected-size", "9", "half") as client:
        try:
            assert client.stdin is not None
            client.stdin.write(b"part\n")
            client.stdin.flush()
            _wait_for_ingest(fake, "half")
        finally:
            fake.stop(how)
        client.stdin.close()
        assert client.wait(daemons.STOP_SECONDS) != 0
    assert fake.session() == []
    with daemons.running(fake):
        done = fake.ctr("content", "ingest", "--expected-size", "9", "half", stdin=b"part\nmore")
        assert done.code == 0, done.stderr.decode()


def test_a_clean_stop_takes_the_socket_away(fake: daemons.Daemon) -> None:
    fake.start()
    fake.stop(signal.SIGTERM)
    assert not fake.socket.exists()


def _wait_for_ingest(daemon: daemons.Daemon, ref: str) -> None:
    """Return once the daemon knows the ingest; each question is a process of its own, so this does not spin."""
    deadline = time.monotonic() + daemons.COMMAND_SECONDS
    while ref not in daemon.ctr("content", "active").stdout.decode():
        assert time.monotonic() < deadline, f"no ingest {ref}:\n{daemon.log[-2000:]}"
