"""Who we are to a registry: basic authentication, and tokens from the server that a registry names.

A registry that answers 401 says in ``WWW-Authenticate`` what it wants. ``Bearer`` means: fetch a token from ``realm``
with the rest of the challenge as query, with name and password if there are any, and come again with the token.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from refimpl.contract.errors import PermissionDenied

_SCHEME = re.compile(r"\s*(?P<scheme>[A-Za-z]+)\s+(?P<rest>(?:[A-Za-z_-]+=(?:\"[^\"]*\"|[^\s,\"]+)[\s,]*)*),?")
_PARAMETER = re.compile(r"(?P<name>[A-Za-z_-]+)=(?:\"(?P<quoted>[^\"]*)\"|(?P<plain>[^\s,\"]+))")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or none of both; the password is not shown when this is printed."""

    user: str = ""
    password: str = ""

    def __bool__(self) -> bool:
        return bool(self.user)

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"

    def basic(self) -> str:
        """The header value."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


class Authority:
    """What a registry has been told about us so far.

    Args:
        host: the registry's, for messages.
        credentials: what we have.
        secure: whether passwords go over encrypted connections only.
        seconds: a token server's time to answer.
    """

    def __init__(self, host: str, credentials: Credentials, *, secure: bool, seconds: float) -> None:
        self._host, self._credentials, self._secure, self._seconds = host, credentials, secure, seconds
        self.header = ""

    @property
    def who(self) -> str:
        """The name that we go by, for messages."""
        return self._credentials.user or "anonymous users"

    def answer(self, session: requests.Session, refusal: requests.Response, scope: str) -> None:
        """Make of a 401 the header for the next try.

        Args:
            scope: what to ask a token for when the challenge does not say.

        Raises:
            PermissionDenied: the registry wants what we have not got, or its token server refuses us.
        """
        challenges = parse(refusal.headers.get("WWW-Authenticate", ""))
        for scheme, parameters in challenges:
            if scheme == "bearer" and "realm" in parameters:
                self.header = f"Bearer {self._token(session, parameters, scope)}"
                return
        if any(scheme == "basic" for scheme, _ in challenges):
            if not self._credentials:
                raise PermissionDenied(f"{self._host} wants a name and a password: use --user NAME")
            self.header = self._credentials.basic()
            return
        raise PermissionDenied(f"{self._host} answered 401 and no challenge that is known")

    def _token(self, session: requests.Session, challenge: dict[str, str], scope: str) -> str:
        realm = challenge["realm"]
        asked = {"scope": challenge.get("scope") or scope}
        if challenge.get("service"):
            asked["service"] = challenge["service"]
        headers = {}
        if self._credentials:
            if self._secure and urlsplit(realm).scheme != "https":
                raise PermissionDenied(f"the password is not sent to {realm}: not https")
            asked["account"] = self._credentials.user
            headers["Authorization"] = self._credentials.basic()
        found = session.get(realm, params=asked, headers=headers, auth=unchanged, timeout=self._seconds)
        if found.status_code in {401, 403}:
            server = urlsplit(realm).netloc
            raise PermissionDenied(f"token server {server} refuses {self.who} (status {found.status_code})")
        found.raise_for_status()
        return _token_in(found.json(), realm)


def _token_in(document: Any, realm: str) -> str:
    token = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str):
        raise PermissionDenied(f"token server {realm} answered without a token")
    return token


def unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication for requests that leaves our header alone; without one it would look into ``~/.netrc``."""
    return request


def parse(header: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of a ``WWW-Authenticate``: scheme in lower case, parameters by name in lower case."""
    return [
        (
            match["scheme"].lower(),
            {
                one["name"].lower(): one["quoted"] if one["quoted"] is not None else one["plain"]
                for one in _PARAMETER.finditer(match["rest"])
            },
        )
        for match in _SCHEME.finditer(header)
    ]
