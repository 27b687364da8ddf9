"""Our own plugins under Debian's containerd, as proxy plugins: an image is imported, unpacked, and run from them.

containerd 1.6 takes snapshotters and content stores from a socket. It takes no differs (2.x does): ours is put to work
there by a client that unpacks with it, and under refimpl, which does take them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from refimpl.client import Client
from refimpl.client.connection import Connection
from refimpl.client.diff import RemoteDiffer
from refimpl.client.unpack import unpack
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import Unavailable
from refimpl.contract.images import ImageStore
from refimpl.contract.leases import LeaseManager
from refimpl.contract.snapshots import Snapshotter
from tests.acceptance import daemons, images, real_tasks
from tests.acceptance.real_tasks import RealDaemon

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "ctr", "containerd-shim-runc-v2", "runc", "busybox")]

IMAGE = images.PROGRAMS_NAME

CONTENT, OVERLAYFS, NATIVE, WALKING = (
    "io.containerd.content.v1.content",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.differ.v1.walking",
)
KINDS = {CONTENT: "content", OVERLAYFS: "snapshot", NATIVE: "snapshot", WALKING: "diff"}


@dataclass
class Served:
    """A plugin of ours behind a socket, in a process of its own.

    Attributes:
        base: where the socket and the plugin's directory are.
        host: socket of the daemon that a differ works for.
    """

    uri: str
    base: Path
    host: str = ""
    process: subprocess.Popen[str] | None = None

    @property
    def id(self) -> str:
        """Under which the host knows it."""
        return f"refimpl-{self.uri.rpartition('.')[2]}"

    @property
    def socket(self) -> Path:
        return self.base / f"{self.id}.sock"

    @property
    def directory(self) -> Path:
        """Where it keeps its files."""
        return self.base / "plugins" / self.uri

    @property
    def config(self) -> str:
        """What the host's configuration says of it."""
        return f'[proxy_plugins.{self.id}]\ntype = "{KINDS[self.uri]}"\naddress = "{self.socket}"\n'

    def start(self) -> None:
        words = ["serve-plugin", self.uri, "--address", str(self.socket), "--backends", "real"]
        words += ["--root", str(self.base / "plugins"), *(["--host", self.host] if self.host else [])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "refimpl", *words],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("serving a ")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None, "stop() without start()"
        self.process.send_signal(how)
        status = self.process.wait(daemons.STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def end(self) -> None:
        """Stop it if it runs; for cleaning up."""
        if self.process is not None:
            self.stop()


@contextmanager
def serving(*plugins: Served) -> Iterator[None]:
    """The plugins, started, and ended whatever happens."""
    with ExitStack() as stack:
        for plugin in plugins:
            plugin.base.mkdir(parents=True, exist_ok=True)
            plugin.start()
            stack.callback(plugin.end)
        yield


@contextmanager
def containerd(base: Path, extra: str = "") -> Iterator[RealDaemon]:
    """Debian's daemon with a namespace of its own, not yet started; nothing is left of it on the machine."""
    daemon = RealDaemon(daemons.containerd(base).command, base)
    daemons.write_config(daemon, extra)
    try:
        yield daemon
    finally:
        daemon.end()
        daemon.clear()


@pytest.fixture
def plugins(base: Path) -> dict[str, Served]:
    """Ours, not yet served."""
    return {uri: Served(uri, base) for uri in (CONTENT, OVERLAYFS, NATIVE)}


@pytest.fixture
def host(base: Path, plugins: dict[str, Served]) -> Iterator[RealDaemon]:
    """Containerd with our content store instead of its own, and our snapshotters beside its own."""
    proxies = "".join(plugin.config for plugin in plugins.values())
    # A key without a table has to come first.
    extra = proxies + '[plugins."io.containerd.grpc.v1.cri"]\n'
    with containerd(base, extra) as daemon:
        config = base / "config.toml"
        disabled = f'disabled_plugins = ["{CONTENT}", "io.containerd.grpc.v1.cri"]\n'
        config.write_text(disabled + config.read_text().replace('[plugins."io.containerd.grpc.v1.cri"]\n', ""))
        yield daemon


def said(daemon: RealDaemon, *arguments: str) -> str:
    """What ``ctr`` prints; it has to succeed."""
    done = daemon.ctr(*arguments)
    assert done.code == 0, f"ctr {' '.join(arguments)}: {done.stderr.decode()}\n{daemon.log[-2000:]}"
    return done.stdout.decode()


def printed(daemon: RealDaemon, *arguments: str) -> tuple[int, str]:
    """Status and standard output of a ``ctr run`` of a program that prints."""

    def run() -> tuple[int, str]:
        done = daemon.ctr(*arguments)
        return done.code, done.stdout.decode()

    return daemons.printed(run)


def blobs(plugin: Served) -> list[str]:
    return sorted(path.name for path in (plugin.directory / "blobs/sha256").glob("*"))


@pytest.mark.parametrize("uri", [OVERLAYFS, NATIVE], ids=["overlayfs", "native"])
def test_an_image_is_imported_unpacked_and_run_from_our_plugins(
    host: RealDaemon, plugins: dict[str, Served], archives: images.Images, uri: str
) -> None:
    snapshotter = plugins[uri]
    with serving(*plugins.values()):
        host.start()
        said(host, "images", "import", "--snapshotter", snapshotter.id, str(archives.programs))
        assert IMAGE in said(host, "images", "ls", "-q")
        assert len(blobs(plugins[CONTENT])) == len(said(host, "content", "ls", "-q").split())
        assert not (host.root / CONTENT).exists(), "containerd's own store is not there"
        assert len(said(host, "snapshots", "--snapshotter", snapshotter.id, "ls").splitlines()) == 1 + 2
        assert len(list((snapshotter.directory / "snapshots").iterdir())) == 2

        run = ("run", "--snapshotter", snapshotter.id)
        assert printed(host, *run, "--rm", IMAGE, "one", "echo", "hi") == (0, "hi\n")
        script = "echo kept > /file; cat /file; exit 7"
        assert printed(host, *run, "--rm", IMAGE, "two", "sh", "-c", script) == (7, "kept\n")

        # What a container writes is in its own snapshot, which our snapshotter keeps.
        said(host, *run, "-d", IMAGE, "three", "sleep", "1000")
        said(host, "tasks", "exec", "--exec-id", "e", "three", "sh", "-c", "echo written > /here")
        written = list(snapshotter.directory.glob("snapshots/*/**/here"))
        assert [path.read_text() for path in written] == ["written\n"]
        said(host, "tasks", "kill", "-s", "SIGKILL", "three")
        said(host, "tasks", "rm", "-f", "three")
        said(host, "containers", "rm", "three")

        said(host, "images", "rm", "--sync", IMAGE)
        assert blobs(plugins[CONTENT]) == []
        assert list((snapshotter.directory / "snapshots").iterdir()) == []
        assert host.stop() == 0
    real_tasks.gone(host.left)


def test_plugins_may_stop_and_come_back_while_the_host_runs(
    host: RealDaemon, plugins: dict[str, Served], archives: images.Images
) -> None:
    overlayfs = plugins[OVERLAYFS]
    with serving(*plugins.values()):
        host.start()
        said(host, "images", "import", "--snapshotter", overlayfs.id, str(archives.programs))
        run = ("run", "--rm", "--snapshotter", overlayfs.id, IMAGE)
        for how in (signal.SIGTERM, signal.SIGKILL):
            assert overlayfs.stop(how) in {0, -signal.SIGKILL}
            with Client(str(host.socket), timeout=daemons.COMMAND_SECONDS) as client, pytest.raises(Unavailable):
                client.snapshotter(overlayfs.id).prepare(CallContext(host.namespace), "none", "")
            overlayfs.start()
            real_tasks.until(lambda: host.ctr(*run, "one", "true").code == 0, "the snapshotter is not found again")
            assert printed(host, *run, "two", "echo", "again") == (0, "again\n")
        host.stop()


@dataclass
class Mixed:
    """A machine whose differ is another process's than its stores."""

    client: Client
    diff: Differ

    @property
    def content(self) -> ContentStore:
        return self.client.content

    @property
    def images(self) -> ImageStore:
        return self.client.images

    @property
    def leases(self) -> LeaseManager:
        return self.client.leases

    def snapshotter(self, name: str) -> Snapshotter:
        return self.client.snapshotter(name)


def test_our_differ_unpacks_for_containerd(base: Path, archives: images.Images) -> None:
    with containerd(base) as daemon:
        differ = Served(WALKING, base, host=str(daemon.socket))
        daemon.start()
        with serving(differ), Client(str(daemon.socket), timeout=daemons.COMMAND_SECONDS) as client:
            said(daemon, "images", "import", "--no-unpack", str(archives.programs))
            ctx, connection = CallContext(daemon.namespace), Connection(str(differ.socket))
            unpack(ctx, Mixed(client, RemoteDiffer(connection)), client.images.get(ctx, IMAGE).target, "overlayfs")
            assert printed(daemon, "run", "--rm", IMAGE, "one", "echo", "hi") == (0, "hi\n")

            # And the other way: what a container has changed becomes a layer in containerd's store.
            said(daemon, "run", "-d", IMAGE, "two", "sleep", "1000")
            said(daemon, "tasks", "exec", "--exec-id", "e", "two", "sh", "-c", "echo new > /added")
            overlayfs = client.snapshotter("overlayfs")
            parent = overlayfs.stat(ctx, "two").parent
            leased = ctx.with_lease(client.leases.create(ctx, "work").id)
            layer = RemoteDiffer(connection).compare(
                leased, overlayfs.view(leased, "below", parent), overlayfs.mounts(ctx, "two")
            )
            assert client.content.info(ctx, layer.digest).size == layer.size
            theirs = client.diff.compare(leased, overlayfs.mounts(ctx, "below"), overlayfs.mounts(ctx, "two"))
            diff_ids = {
                client.content.info(ctx, each.digest).labels["containerd.io/uncompressed"] for each in (layer, theirs)
            }
            assert len(diff_ids) == 1, "both differs make the same archive"
            said(daemon, "tasks", "kill", "-s", "SIGKILL", "two")
            said(daemon, "tasks", "rm", "-f", "two")
            connection.close()
        daemon.stop()


def test_our_differ_is_a_proxy_plugin_of_refimpl(base: Path, archives: images.Images) -> None:
    order = '[plugins."io.containerd.service.v1.diff-service"]\ndefault = ["refimpl-walking"]\n'
    differ = Served(WALKING, base, host=str(base / "c.sock"))
    with real_tasks.real(base, extra=differ.config + order) as daemon, serving(differ):
        daemon.start()
        said(daemon, "images", "import", str(archives.programs))
        assert printed(daemon, "run", "--rm", IMAGE, "one", "echo", "hi") == (0, "hi\n")
        differ.stop()
        ctx, client = CallContext(daemon.namespace), Client(str(daemon.socket), timeout=daemons.COMMAND_SECONDS)
        with client, pytest.raises(Unavailable):
            client.diff.compare(ctx, [], [])
        differ.start()
        daemon.stop()


def test_containerd_takes_no_differ_before_2(base: Path) -> None:
    if not daemons.ctr_version().startswith("1."):
        pytest.skip("containerd takes differs from 2.x on")
    with containerd(base, Served(WALKING, base).config) as daemon:
        assert daemon.refuses_to_start() != 0
        assert "unknown proxy plugin type" in daemon.log


def test_a_plugin_that_cannot_be_served_says_so_in_a_line(base: Path) -> None:
    def refused(*words: str) -> str:
        argv = [sys.executable, "-m", "refimpl", "serve-plugin", *words, "--address", str(base / "s.sock")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        return done.stderr

    root = ("--root", str(base / "plugins"), "--backends", "real")
    assert "--root" in refused(OVERLAYFS)
    assert "--host" in refused(WALKING, *root)
    assert "not found" in refused("io.containerd.snapshotter.v1.nosuch", *root)
    assert "only plugins of the types" in refused("io.containerd.grpc.v1.images", *root)
    assert "devmapper not configured" in refused("io.containerd.snapshotter.v1.devmapper", *root)
