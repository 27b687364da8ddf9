"""``snapshotter+unix://`` and ``content+unix://``: a proxy plugin alone, as containerd would talk to it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from conformance.subjects.base import Identity, Subject, SubjectError
from conformance.subjects.scoped import ScopedContent, ScopedSnapshotter
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.snapshots import Snapshotter
from refimpl.linux.mounter import KernelMounter

PROBE_SECONDS = 5.0
"""How long a proxy may take for its first answer."""

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
        self._client = Client(self.address, timeout=10.0)
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


def proxy(spec: str) -> ProxySubject:
    """The subject for ``KIND+unix:///path[?id=NAME]``.

    Raises:
        SubjectError: not of that form.
    """
    parts = urlsplit(spec)
    kind = parts.scheme.removesuffix("+unix")
    if not parts.path:
        raise SubjectError(f"{spec!r}: expected {kind}+unix:///path/of.sock")
    id = parse_qs(parts.query).get("id", [Path(parts.path).stem])[0]
    return ProxySubject(spec, kind, parts.path, id)
