"""io.containerd.service.v1.introspection-service: the daemon about itself.

It lists the plugins as of each call, so those initialised after it are there too (PLG-054). The real twin keeps the
daemon's UUID in ``<root>/io.containerd.grpc.v1.introspection/uuid`` (36 characters, no newline; the directory is the
front's, as in containerd), made by the first call and read at each one; the fake twin keeps it in memory. Clauses
SVC-001 to 003, SVC-007, PLG-024 to 029, PLG-054 to 058.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from refimpl.api import status
from refimpl.contract import filters as filter_language
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.introspection import PluginError, PluginInfo, ServerInfo
from refimpl.contract.quoting import quoted
from refimpl.kernel import InitContext, Plugin, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE

_URN = "urn:uuid:"
_LENGTH = 36
_HYPHENS = (8, 13, 18, 23)


class IntrospectionService:
    """A ``contract.introspection.Introspection``.

    Args:
        plugins: answers with the plugins as of now, in their order.
        identity: answers with the daemon's UUID.
    """

    def __init__(self, plugins: Callable[[], Sequence[Plugin]], identity: Callable[[], str]) -> None:
        self._plugins, self._identity = plugins, identity

    def plugins(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[PluginInfo]:
        """Every enabled plugin that is wanted, failed and skipped ones too, in order of initialisation (PLG-012).

        Raises:
            InvalidArgument: a filter that does not parse (PLG-057).
        """
        try:
            wanted = filter_language.parse(filters)
        except InvalidArgument as error:
            # Twice the kind: so containerd answers here.
            raise InvalidArgument(str(error)) from error
        return [_describe(plugin) for plugin in self._plugins() if wanted(_fields(plugin))]

    def server(self, ctx: CallContext) -> ServerInfo:
        """The daemon's UUID; process id and namespace are not told in 1.6 (SVC-004).

        Raises:
            Unknown: what is kept is no UUID (SVC-003).
        """
        return ServerInfo(self._identity())


def _describe(plugin: Plugin) -> PluginInfo:
    registration = plugin.registration
    return PluginInfo(
        type=registration.type,
        id=registration.id,
        requires=tuple(registration.requires),
        platforms=tuple(plugin.platforms),
        exports=dict(plugin.exports),
        capabilities=tuple(plugin.capabilities),
        init_err=PluginError(status.code_of(plugin.error), status.text_of(plugin.error)) if plugin.error else None,
    )


def _fields(plugin: Plugin) -> filter_language.Adaptor:
    """Only type and id can be asked for, and only the first step of a path counts (PLG-055, PLG-056)."""
    known = {"type": plugin.registration.type, "id": plugin.registration.id}
    return lambda fieldpath: known.get(fieldpath[0])


class IdentityFile:
    """A UUID that survives the daemon, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> str:
        """What the file says, as it is written there; a new one if there is no file (SVC-001, SVC-002).

        Raises:
            Unknown: not a UUID in any usual spelling (SVC-003).
            OSError: a directory in its place, no permission and the like.
        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            text = str(uuid.uuid4())
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.write_text(text)
        _validate_uuid(text)
        return text


class IdentityInMemory:
    """A UUID that lives as long as the plugin."""

    def __init__(self) -> None:
        self._text = str(uuid.uuid4())

    def __call__(self) -> str:
        """The same text at each call."""
        return self._text


def _validate_uuid(text: str) -> None:
    """Accept canonical, upper-case, bare, braced and URN spellings, as Go's library does.

    Raises:
        Unknown: any other text.
    """
    bare = text
    if len(text) == _LENGTH + len(_URN):
        if text[: len(_URN)].lower() != _URN:
            raise Unknown(f"invalid urn prefix: {quoted(text[: len(_URN)])}")
        bare = text[len(_URN) :]
    elif len(text) == _LENGTH + 2:
        bare = text[1:-1]
    elif len(text) == _LENGTH - len(_HYPHENS):
        bare = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    elif len(text) != _LENGTH:
        raise Unknown(f"invalid UUID length: {len(text)}")
    digits = bare.replace("-", "")
    hexadecimal = all(digit in "0123456789abcdefABCDEF" for digit in digits)
    if any(bare[place] != "-" for place in _HYPHENS) or len(digits) != _LENGTH - len(_HYPHENS) or not hexadecimal:
        raise Unknown("invalid UUID format")


def init_real(ic: InitContext) -> IntrospectionService:
    """Keep the UUID on disk. Nothing is made before the first call."""
    return IntrospectionService(ic.plugins, IdentityFile(ic.root.parent / f"{GRPC}.introspection" / "uuid"))


def init_fake(ic: InitContext) -> IntrospectionService:
    """Keep the UUID in memory."""
    return IntrospectionService(ic.plugins, IdentityInMemory())


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service, for either world."""
    return [
        Registration(SERVICE, "introspection-service", init=init_real, backend="real"),
        Registration(SERVICE, "introspection-service", init=init_fake, backend="fake"),
    ]
