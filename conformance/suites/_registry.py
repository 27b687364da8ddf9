"""A registry of the check's own on loopback, from which ``ctr`` pulls."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conformance.suites._images import Archive
from refimpl.contract.types import Descriptor

HOST = "127.0.0.1"

_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<name>[^/]+)\Z")


class Registry:
    """The pulling half of the distribution protocol, over plain HTTP and for everybody."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[str, bytes]] = {}
        self._tags: dict[tuple[str, str], str] = {}
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def push(self, archive: Archive, top: Descriptor, repository: str, tag: str) -> str:
        """Serve all blobs of an archive, and one of its documents under a tag; the reference to pull."""
        for path, data in archive.files.items():
            digest = path.removeprefix("blobs/").replace("/", ":")
            kind = top.media_type if digest == top.digest else "application/octet-stream"
            self._blobs[digest] = (kind, data)
        self._tags[repository, tag] = top.digest
        return f"{HOST}:{self._server.server_port}/{repository}:{tag}"

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _find(self, path: str) -> tuple[str, str, bytes] | None:
        """Media type, digest and bytes of what a path names."""
        if (match := _PATH.match(path)) is None:
            return None
        digest = self._tags.get((match["repository"], match["name"]), match["name"])
        if (found := self._blobs.get(digest)) is None:
            return None
        return found[0], digest, found[1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def log_message(self, *_args: object) -> None:
                """Nothing: a check has no use for the server's words."""

            def _answer(self, *, body: bool) -> None:
                if (found := registry._find(self.path)) is None:
                    self.send_error(404)
                    return
                kind, digest, data = found
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Docker-Content-Digest", digest)
                self.end_headers()
                if body:
                    self.wfile.write(data)

        return Handler


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that is empty: ``reference = registry.push(archive, index, "lib/one", "1")``."""
    made = Registry()
    yield made
    made.close()
