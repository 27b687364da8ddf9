"""A proxy plugin alone, as containerd would talk to it: ``snapshotter+unix://``, ``content+unix://``, ``diff+unix://``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from conformance import patience
from conformance.subjects.base import Identity, Subject, SubjectError
from conformance.subjects.daemon import RunningDaemon
from conformance.subjects.scoped import ScopedContent, ScopedSnapshotter
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, DeadlineExceeded, Unavailable, Unimplemented
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor
from refimpl.linux.mounter import KernelMounter

PROBE_SECONDS = patience.SECONDS
"""How long a proxy may take for its first answer."""

_DIFFER = "io.containerd.differ.v1"
_KINDS = {"snapshotter": "io.containerd.snapshotter.v1", "content": "io.containerd.content.v1"}


class ProxySubject(Subject):
    """One service on one socket.

    Args:
        kind: ``snapshotter`` or ``content``.
        address: path of the socket.
        id: the snapshotter name that requests carry (the id of the proxy plugin in containerd's configuration).
    """

    def __init__(self, spec: str, kind: str, address: str, id: str) -> None:
        super().__init__(spec)
        self._kind, self.address, self._id = kind, address, id
        self._client: Client | None = None
        self.types = frozenset({_KINDS[kind]})

    def open(self) -> None:
        """Connect and ask for a list.

        Raises:
            SubjectError: no socket there, or no such service answers.
        """
        if not Path(self.address).exists():
            raise SubjectError(f"there is no socket {self.address}")
        self._client = Client(self.address, timeout=2 * patience.SECONDS)
        if error := self._probe():
            raise SubjectError(f"no {self._kind} answers at {self.address}: {error}")
        if self._kind == "snapshotter":
            self.snapshotters = (self._id,)
            if os.geteuid() == 0:
                self.mounter = KernelMounter()
                self.capabilities = frozenset({"root", "mknod", "xattr"})
        else:
            self.content = ScopedContent(self._client.content)

    def _probe(self) -> str:
        """Why it does not answer; empty if it does."""
        assert self._client is not None, "made in open"
        probe = CallContext(namespace="conform-probe", deadline=time.monotonic() + PROBE_SECONDS)
        try:
            if self._kind == "snapshotter":
                list(self._client.snapshotter(self._id).walk(probe))
            else:
                self._client.content.list_statuses(probe)
        except ContainerdError as error:
            return str(error)
        return ""

    def snapshotter(self, id: str) -> Snapshotter:
        """The one that the proxy serves."""
        assert self._client is not None, "asked for only after open"
        return ScopedSnapshotter(self._client.snapshotter(id))

    def alive(self) -> str:
        """Ask for a list once more."""
        error = self._probe()
        return f"the proxy no longer answers: {error}" if error else ""

    def identity(self) -> Identity:
        """All that is known of a proxy is where it is."""
        uri = f"{_KINDS[self._kind]}.{self._id if self._kind == 'snapshotter' else 'content'}"
        return Identity(self.name, "", {uri: f"proxy {self.address}"})

    def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class DifferSubject(RunningDaemon):
    """A differ on a socket of its own. It works on the content of a daemon, which also makes the snapshots.

    Args:
        address: path of the differ's socket.
        daemon: path of that daemon's.
    """

    def __init__(self, spec: str, address: str, daemon: str) -> None:
        super().__init__(spec, daemon)
        self._differ_address = address
        self._differ: Client | None = None
        self.types = frozenset({_DIFFER})

    def open(self) -> None:
        """Connect to both, and see whether a differ answers.

        Raises:
            SubjectError: one of the sockets is not there, or nobody of that kind answers.
        """
        if not Path(self._differ_address).exists():
            raise SubjectError(f"there is no socket {self._differ_address}")
        super().open()
        # Raw calls are for the differ; the daemon is only what it works with.
        self.address = self._differ_address
        self._differ = Client(self._differ_address, timeout=10.0)
        self.diff = self._differ.diff
        if error := self._probe():
            raise SubjectError(f"no differ answers at {self._differ_address}: {error}")

    def _probe(self) -> str:
        """Why it does not answer; empty if it does: any error of its own is an answer."""
        assert self.diff is not None, "set in open"
        probe = CallContext(namespace="conform-probe", deadline=time.monotonic() + PROBE_SECONDS)
        try:
            self.diff.apply(probe, Descriptor("application/vnd.oci.image.layer.v1.tar", "sha256:" + 64 * "0", 0), [])
        except (DeadlineExceeded, Unavailable, Unimplemented) as error:
            return str(error)
        except ContainerdError:
            pass
        return ""

    def alive(self) -> str:
        """Ask both once more."""
        if error := super().alive():
            return error
        error = self._probe()
        return f"the proxy no longer answers: {error}" if error else ""

    def identity(self) -> Identity:
        """All that is known of a proxy is where it is."""
        return Identity(self.name, "", {f"{_DIFFER}.walking": f"proxy {self._differ_address}"})

    def close(self) -> None:
        """Let go of both connections."""
        client, self._differ = self._differ, None
        if client is not None:
            client.close()
        super().close()


def proxy(spec: str) -> Subject:
    """The subject for ``KIND+unix:///path[?id=NAME]`` or ``diff+unix:///path?daemon=/path``.

    Raises:
        SubjectError: not of that form.
    """
    parts = urlsplit(spec)
    kind = parts.scheme.removesuffix("+unix")
    if not parts.path:
        raise SubjectError(f"{spec!r}: expected {kind}+unix:///path/of.sock")
    given = parse_qs(parts.query)
    if kind == "diff":
        if "daemon" not in given:
            raise SubjectError(f"{spec!r}: expected {kind}+unix:///path/of.sock?daemon=/path/of/the/containerd.sock")
        return DifferSubject(spec, parts.path, given["daemon"][0])
    return ProxySubject(spec, kind, parts.path, given.get("id", [Path(parts.path).stem])[0])
