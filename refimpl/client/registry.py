"""One repository of a registry, over the distribution protocol: its manifests, and its blobs from any byte on.

A connection that fails and a server that says "later" (429, 5xx) are tried again, ``TRIES`` times in all. Every answer
is bounded by a time for each read; how long a blob takes altogether is not.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from refimpl.client import references
from refimpl.client.manifests import INDEXES, LARGEST, MANIFESTS
from refimpl.client.registry_auth import Authority, Credentials, unchanged
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unavailable,
    Unknown,
)
from refimpl.contract.types import Descriptor

TRIES = 4
"""How often a question is asked before its failure is told."""

PAUSE = 0.2
"""Seconds before the second try; each further one waits twice as long."""

SECONDS = 30.0
"""How long a registry may take for a connection, or for the next bytes."""

CHUNK = 1024 * 1024
"""Bytes that are in memory at a time."""

_HUB = ("docker.io", "registry-1.docker.io")
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
_DOCUMENTS = INDEXES | MANIFESTS
_PASSING = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError)
_VAGUE = frozenset({"", "application/json", "text/plain", "application/octet-stream", "binary/octet-stream"})
"""Content types of servers that do not know what they serve."""


class BrokenOff(Unavailable):
    """A registry stopped in the middle of an answer: what came is good, and the rest can be asked for."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, taken apart.

    Attributes:
        name: in full, as its record is called.
        host: with the port, if the name has one.
        repository: what is between host and tag.
        wanted: what to ask for: a digest, or else a tag.
    """

    name: str
    host: str
    repository: str
    wanted: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as docker does: ``alpine`` is ``docker.io/library/alpine:latest``.

        Raises:
            InvalidArgument: not a name that docker knows.
        """
        name = references.normalized(text)
        host, _, path = name.partition("/")
        path, _, digest = path.partition("@")
        repository, _, tag = path.partition(":")
        return cls(name, host, repository, digest or tag)

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return re.sub(r":\d+$", "", self.host)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for.

    Attributes:
        data: the document's bytes; they have the descriptor's digest.
    """

    descriptor: Descriptor
    data: bytes


class Registry:
    """A repository. May be used from any thread; each has connections of its own.

    Args:
        plain_http: speak http; by default only to this machine.
        pause: as ``PAUSE``.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        credentials: Credentials = Credentials(),  # noqa: B008  # it cannot be changed
        plain_http: bool | None = None,
        pause: float = PAUSE,
    ) -> None:
        self.reference = reference
        self._local = reference.hostname in {"localhost", "127.0.0.1"}
        scheme = "http" if (self._local if plain_http is None else plain_http) else "https"
        host = dict([_HUB]).get(reference.host, reference.host)
        self._base = f"{scheme}://{host}/v2/{reference.repository}"
        self._pause = pause
        self._authority = Authority(reference.host, credentials, secure=scheme == "https", seconds=SECONDS)
        self._lock = threading.Lock()
        self._threads = threading.local()

    def resolve(self, ctx: CallContext) -> Resolved:
        """Ask for what the reference names.

        Raises:
            NotFound: there is none.
            InvalidArgument: it is neither a manifest nor an index.
            FailedPrecondition: its bytes are not those of the digest that was asked for or told.
            PermissionDenied: the registry does not give it to us.
            Unavailable: the registry is not reachable, or breaks off.
        """
        name, wanted = self.reference.name, self.reference.wanted
        if ":" in wanted and not wanted.startswith("sha256:"):
            raise InvalidArgument(f"{name}: only sha256 digests can be checked")
        headers = {"Accept": ", ".join(sorted(_DOCUMENTS))}
        with self._opened(ctx, f"/manifests/{wanted}", headers) as found:
            data = self._document(ctx, found)
            told = found.headers.get("Docker-Content-Digest", "")
            kind = found.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for promised in (wanted, told):
            if promised.startswith("sha256:") and promised != digest:
                raise FailedPrecondition(f"{name}: wrong digest {digest}, not {promised}")
        return Resolved(Descriptor(_media_type(name, kind, data), digest, len(data)), data)

    @contextmanager
    def blob(self, ctx: CallContext, descriptor: Descriptor, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes of a blob or manifest, from ``offset`` on if the registry can, else from the start.

        Yields:
            Where they begin, and the chunks, which end in BrokenOff when the connection does.

        Raises:
            NotFound, PermissionDenied, Unavailable: as ``resolve``.
        """
        kind = "manifests" if descriptor.media_type in _DOCUMENTS else "blobs"
        headers = {"Accept": f"{descriptor.media_type}, */*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with self._opened(ctx, f"/{kind}/{descriptor.digest}", headers) as found:
            start = re.match(r"bytes (\d+)-", found.headers.get("Content-Range", ""))
            begins = int(start[1]) if found.status_code == 206 and start else 0
            yield begins, self._chunks(ctx, found)

    @contextmanager
    def _opened(self, ctx: CallContext, path: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        answer = self._asked(ctx, path, headers)
        try:
            yield answer
        finally:
            answer.close()

    def _asked(self, ctx: CallContext, path: str, headers: dict[str, str]) -> requests.Response:
        """The answer to a question, once it is a good one."""
        refused, tries = False, 0
        while True:
            ctx.check()
            try:
                answer = self._once(path, headers)
            except requests.exceptions.RequestException as error:
                failure, later = self._broken(error)
            else:
                if answer.status_code in {200, 206}:
                    return answer
                answer.close()
                if answer.status_code == 401 and not refused:
                    refused = True
                    self._identify(answer)
                    continue
                failure, later = self._refusal(answer, path), answer.status_code in _LATER
            tries += 1
            if not later or tries == TRIES:
                raise failure
            _wait(ctx, self._pause * 2 ** (tries - 1))

    def _once(self, path: str, headers: dict[str, str]) -> requests.Response:
        # Compressed on the way they would be other bytes.
        more = {"Accept-Encoding": "identity"}
        if self._authority.header:
            more["Authorization"] = self._authority.header
        return self._session.get(
            self._base + path, headers={**headers, **more}, auth=unchanged, stream=True, timeout=SECONDS
        )

    def _identify(self, refusal: requests.Response) -> None:
        with self._lock:
            if self._authority.header != refusal.request.headers.get("Authorization", ""):
                return  # another thread has been told the same, and knows better by now
            try:
                self._authority.answer(self._session, refusal, f"repository:{self.reference.repository}:pull")
            except (requests.exceptions.RequestException, ValueError) as error:
                raise Unavailable(f"token server of {self.reference.host}: {_reason(error)}") from error

    def _broken(self, error: requests.exceptions.RequestException) -> tuple[ContainerdError, bool]:
        """What a failed connection is told as, and whether trying again may help."""
        host = self.reference.host
        if isinstance(error, requests.exceptions.SSLError):
            return Unavailable(f"{host}: {_reason(error)} (--plain-http is for registries without TLS)"), False
        if isinstance(_cause(error), urllib3.exceptions.NameResolutionError):
            return Unavailable(f"{host}: no such host"), False
        # Where nobody listens, nobody will in a moment.
        passing = isinstance(error, _PASSING) and not isinstance(_cause(error), urllib3.exceptions.NewConnectionError)
        return Unavailable(f"{host}: {_reason(error)}"), passing

    def _refusal(self, answer: requests.Response, path: str) -> ContainerdError:
        host, name, what = self.reference.host, self.reference.name, path.rpartition("/")[2]
        status = answer.status_code
        if status == 404:
            return NotFound(name if what == self.reference.wanted else f"{what} of {name}")
        if status in {401, 403}:
            return PermissionDenied(f"{host} does not give {name} to {self._authority.who} (status {status})")
        if status == 416:
            return OutOfRange(f"{what} of {name}")
        kind = Unavailable if status in _LATER else Unknown
        return kind(f"{host} answered {status} {answer.reason} for {what}")

    def _document(self, ctx: CallContext, answer: requests.Response) -> bytes:
        data = bytearray()
        for chunk in self._chunks(ctx, answer):
            data += chunk
            if len(data) > LARGEST:
                raise InvalidArgument(f"{self.reference.name} is larger than any manifest")
        return bytes(data)

    def _chunks(self, ctx: CallContext, answer: requests.Response) -> Iterator[bytes]:
        try:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                ctx.check()
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            ctx.check()
            raise BrokenOff(f"{self.reference.host} broke off: {_reason(error)}") from error

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            session.headers["User-Agent"] = "refimpl"
            # No proxy leads to ourselves, whatever the environment says of proxies.
            session.trust_env = not self._local
        return session


def _media_type(name: str, kind: str, data: bytes) -> str:
    """What a document is, by its content type, or by itself where the server does not know.

    Raises:
        InvalidArgument: neither manifest nor index.
    """
    if kind in _DOCUMENTS:
        return kind
    try:
        document: Any = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"{name} is no manifest: {kind or 'nothing known'}") from error
    own = document.get("mediaType", "") if isinstance(document, dict) else ""
    if kind.startswith(_SCHEMA1) or (isinstance(document, dict) and document.get("schemaVersion") == 1):
        raise InvalidArgument(f"{name} is of docker's schema 1, which is not supported")
    if kind in _VAGUE and own in _DOCUMENTS:
        return str(own)
    raise InvalidArgument(f"{name} is neither a manifest nor an index: {own or kind or 'nothing known'}")


def _wait(ctx: CallContext, seconds: float) -> None:
    if ctx.cancel is None:
        time.sleep(seconds)
    else:
        ctx.cancel.wait(seconds)


def _cause(error: BaseException) -> BaseException:
    """What lies at the bottom of an error of requests: it wraps urllib3's, which wrap others."""
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _reason(error: BaseException) -> str:
    """In a few words: the libraries' own name classes, objects and addresses of memory."""
    bottom = _cause(error)
    if isinstance(bottom, OSError) and bottom.strerror:
        return bottom.strerror
    # In front of the words stands the connection, its address in memory or an error's number.
    words = re.sub(r"^\w+\(.*?\): |Failed to establish a new connection: |\[Errno -?\d+\] ", "", str(bottom))
    return words or type(bottom).__name__
