"""A registry of a test's own, on loopback: images made on the spot, and whatever can go wrong on the way.

It speaks the pulling half of the distribution protocol. ``asked`` has every request in order; a fault strikes the
requests whose path ends in what it names, as often as it says.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from refimpl.client.manifests import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from refimpl.client.platforms import host

HOST = "127.0.0.1"
LAYER = "application/vnd.oci.image.layer.v1.tar"
TOKEN = "let-me-in"

HELD_SECONDS = 120.0

_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<name>[^/]+)\Z")


@dataclass(frozen=True)
class Asked:
    """A request: its path with the query, and what of its headers matters."""

    path: str
    range: str
    authorization: str


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        path: the end of the path of those requests; empty for every path.
        times: how many are struck.
        status: answered in place of the right one; 0 for the right one.
        cut: bytes of the body after which the connection is cut; below 0 for none.
        data: sent in place of the right bytes.
        held: waited for before the first byte of the body is sent.
    """

    path: str
    times: int = 1
    status: int = 0
    cut: int = -1
    data: bytes | None = None
    held: threading.Event | None = None


NONE = Fault("")
"""What strikes nobody."""


@dataclass
class Registry:
    """The registry.

    Attributes:
        user: ``NAME:PASSWORD`` that is wanted; empty for everybody.
        tokens: whether that is wanted by the token server, instead of by the registry itself.
        ranges: whether a part of a blob can be asked for.
        elsewhere: where requests for blobs are redirected to; empty for nowhere.
    """

    address: str = ""
    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    user: str = ""
    tokens: bool = False
    ranges: bool = True
    elsewhere: str = ""
    begun: threading.Event = field(default_factory=threading.Event)

    def image(
        self,
        layers: Sequence[bytes],
        architecture: str = "",
        compressed: Callable[[bytes], tuple[str, bytes]] | None = None,
        **config: Any,
    ) -> dict[str, Any]:
        """An image's manifest, not yet under a name; its descriptor.

        Args:
            layers: tar files.
            compressed: what makes another media type and other bytes of one.
            config: the part of its config for containers.
        """
        here = host()
        packed = [compressed(layer) if compressed else (LAYER, layer) for layer in layers]
        document = {
            "os": here.os,
            "architecture": architecture or here.architecture,
            **({"variant": here.variant} if here.variant and not architecture else {}),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.document(document, OCI_CONFIG),
            "layers": [self.blob(data, kind) for kind, data in packed],
        }
        platform = {"os": document["os"], "architecture": document["architecture"]}
        return {**self.document(manifest, OCI_MANIFEST), "platform": platform}

    def index(self, *manifests: Mapping[str, Any]) -> dict[str, Any]:
        """An index of images; its descriptor."""
        return self.document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, OCI_INDEX)

    def name(self, top: Mapping[str, Any], path: str = "lib/one:1") -> str:
        """Put a document under a name; the reference to pull."""
        self.tags[path] = top["digest"]
        return f"{self.address}/{path}"

    def document(self, value: object, kind: str) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), kind)

    def blob(self, data: bytes, kind: str) -> dict[str, Any]:
        self.blobs[digest_of(data)] = (kind, data)
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    def fault(self, path: str, **what: Any) -> None:
        self.faults.append(Fault(path, **what))

    def strikes(self, path: str) -> Fault:
        """The fault for a request; one without effect if there is none."""
        for fault in self.faults:
            if fault.times > 0 and path.endswith(fault.path):
                fault.times -= 1
                return fault
        return NONE

    def ranges_asked(self) -> list[str]:
        """The ranges of all requests that had one."""
        return [request.range for request in self.asked if request.range]

    def admits(self, request: Asked, path: str) -> bool:
        if not self.user:
            return True
        if self.tokens and path != "/token":
            return request.authorization == f"Bearer {TOKEN}"
        return request.authorization == f"Basic {base64.b64encode(self.user.encode()).decode()}"

    @property
    def challenge(self) -> str:
        if not self.tokens:
            return 'Basic realm="the test"'
        return f'Bearer realm="http://{self.address}/token",service="the registry",scope="repository:lib/one:pull"'


@contextmanager
def serving() -> Iterator[Registry]:
    """A registry that answers; it has ended on leaving."""
    registry = Registry()
    server = ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"registry": registry}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    registry.address = f"{HOST}:{server.server_port}"
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def digest_of(data: bytes) -> str:
    """As OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(files: Mapping[str, bytes | str]) -> bytes:
    """A layer: bytes are a file's content, text is a link's target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        request = Asked(self.path, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        self.registry.asked.append(request)
        if not self.registry.admits(request, path):
            self._send(401, b"", {"WWW-Authenticate": self.registry.challenge})
        elif path == "/token":
            wanted = parse_qs(urlsplit(self.path).query)
            status = 200 if wanted["service"] == ["the registry"] else 400
            self._send(status, json.dumps({"token": TOKEN}).encode(), {"Content-Type": "application/json"})
        else:
            self._document(path, request.range)

    def log_message(self, *_args: object) -> None:
        """Nothing: ``asked`` says it all."""

    def _document(self, path: str, wanted: str) -> None:
        registry, fault, match = self.registry, self.registry.strikes(path), _PATH.match(path)
        digest = registry.tags.get(f"{match['repository']}:{match['name']}", match["name"]) if match else ""
        if match and match["kind"] == "blobs" and registry.elsewhere:
            self._send(307, b"", {"Location": registry.elsewhere + path})
        elif fault.status or digest not in registry.blobs:
            self._send(fault.status or 404, b"", {})
        else:
            kind, data = registry.blobs[digest]
            self._blob(kind, data if fault.data is None else fault.data, wanted, fault)

    def _blob(self, kind: str, data: bytes, wanted: str, fault: Fault) -> None:
        headers = {"Content-Type": kind}
        start = re.fullmatch(r"bytes=(\d+)-", wanted) if self.registry.ranges else None
        if start is None:
            self._send(200, data, headers, fault)
        elif int(start[1]) >= len(data):
            self._send(416, b"", {})
        else:
            headers["Content-Range"] = f"bytes {start[1]}-{len(data) - 1}/{len(data)}"
            self._send(206, data[int(start[1]) :], headers, fault)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], fault: Fault = NONE) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if fault.held is not None:
            self.registry.begun.set()
            fault.held.wait(HELD_SECONDS)
        if fault.cut >= 0:
            self.wfile.write(data[: fault.cut])
            self.close_connection = True
            return
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # who asked has gone, as some tests want it
