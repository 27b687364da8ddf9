"""Two daemons on one root at the same time: the second waits for the lock on the metadata, whoever has it.

Either may be refimpl or containerd, because the lock is the same: flock(2) on ``meta.db``. What the first one is
writing meanwhile is not touched.
"""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unimplemented
from refimpl.contract.namespaces import Namespace
from tests.acceptance import daemons
from tests.acceptance.daemons import Daemon

pytestmark = [pytest.mark.root, pytest.mark.debian("ctr", "containerd")]

CTX = CallContext(namespace="shared")
WAITING = "waiting for response from boltdb open"
LIMITED = '[timeouts]\n"io.containerd.timeout.bolt.open" = "500ms"\n'
PATIENCE_SECONDS = 60.0

MAKERS: dict[str, Callable[[Path], Daemon]] = {
    "containerd": daemons.containerd,
    "refimpl": lambda base: daemons.refimpl(base, backends="real"),
}
PAIRS = [(first, second) for first in MAKERS for second in MAKERS if "refimpl" in {first, second}]
every_pair = pytest.mark.parametrize("first, second", PAIRS)


@pytest.fixture
def one(first: str, base: Path) -> Iterator[Daemon]:
    """The daemon that is there first; it runs."""
    daemon = MAKERS[first](base / "one")
    daemon.start()
    yield daemon
    daemon.end()


@pytest.fixture
def other(one: Daemon, second: str, base: Path) -> Iterator[Daemon]:
    """A daemon with a state and a socket of its own, but the root of ``one``; it does not run yet."""
    daemon = MAKERS[second](base / "other")
    configure(daemon, one)
    yield daemon
    daemon.end()


def configure(daemon: Daemon, owner: Daemon, extra: str = "") -> None:
    """Have ``daemon`` use the root of ``owner``."""
    daemons.write_config(daemon, extra)
    file = daemon.base / "config.toml"
    file.write_text(file.read_text().replace(f'"{daemon.root}"', f'"{owner.root}"'))
    daemon.command = [str(owner.root) if word == str(daemon.root) else word for word in daemon.command]


def wait_for(what: Callable[[], bool], daemon: Daemon) -> None:
    """Until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s:\n{daemon.log[-4000:]}"
        time.sleep(0.05)


def stands_at_the_lock(daemon: Daemon) -> bool:
    """Whether all that comes before the database is done."""
    return "metadata content store policy set" in daemon.log


@every_pair
def test_the_second_waits_without_a_socket_and_goes_when_it_is_told_to(one: Daemon, other: Daemon) -> None:
    with Client(str(one.socket), timeout=daemons.COMMAND_SECONDS) as client:
        writer = client.content.writer(CTX, "upload")
        writer.write(b"half")
        process = other.spawn()
        wait_for(lambda: stands_at_the_lock(other), other)

        assert process.poll() is None
        assert not other.socket.exists()
        assert other.stop(signal.SIGTERM) == 1
        assert "context canceled" in other.log

        writer.write(b" and half")
        writer.commit(CTX)
        assert [info.size for info in client.content.walk(CTX)] == [13], "the first has noticed nothing"


@every_pair
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_second_goes_on_where_the_first_ended(one: Daemon, other: Daemon, how: signal.Signals) -> None:
    with Client(str(one.socket), timeout=daemons.COMMAND_SECONDS) as client:
        client.namespaces.create(CTX, Namespace("shared", {"made-by": "one"}))
        writer = client.content.writer(CTX, "upload")
        writer.write(b"half")
        process = other.spawn()
        wait_for(lambda: stands_at_the_lock(other), other)
        one.stop(how)
    wait_for(lambda: other.answers() or process.poll() is not None, other)
    with Client(str(other.socket), timeout=daemons.COMMAND_SECONDS) as client:
        assert client.namespaces.get(CallContext(), "shared").labels == {"made-by": "one"}
        assert client.content.status(CTX, "upload").offset == 4
    assert other.stop() == 0


@pytest.mark.parametrize("first, second", [("refimpl", name) for name in MAKERS])
def test_who_waits_for_long_says_so_once(one: Daemon, other: Daemon) -> None:
    other.spawn()
    wait_for(lambda: WAITING in other.log, other)
    assert other.log.count(WAITING) == 1
    line = next(line for line in other.log.splitlines() if WAITING in line)
    assert "level=warning" in line
    assert "plugin=bolt" in line
    other.stop()


@every_pair
def test_who_may_not_wait_for_long_serves_without_the_metadata(one: Daemon, other: Daemon) -> None:
    configure(other, one, LIMITED)
    other.start()
    with Client(str(other.socket), timeout=daemons.COMMAND_SECONDS) as client:
        plugins = {plugin.uri: plugin for plugin in client.introspection.plugins(CallContext())}
        error = plugins["io.containerd.metadata.v1.bolt"].init_err
        assert error is not None
        assert (error.code, error.message) == (2, "timeout")
        assert client.version.version(CallContext()).version
        with pytest.raises(Unimplemented):
            client.namespaces.list(CallContext())
    assert other.stop() == 0
    assert one.answers()
