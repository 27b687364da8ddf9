"""Names of images: how a familiar name is written in full, and what of a name is its tag."""

from __future__ import annotations

import re

from refimpl.contract.errors import InvalidArgument

_HUB = "docker.io"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_FULL = re.compile(
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?)/(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?P<digest>@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


def normalized(name: str) -> str:
    """The full form of a docker name: ``alpine`` is ``docker.io/library/alpine:latest``.

    Raises:
        InvalidArgument: not a name that docker knows.
    """
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = _HUB, name
    if first == "index.docker.io":
        first = _HUB
    if first == _HUB and "/" not in rest:
        rest = f"library/{rest}"
    match = _FULL.fullmatch(f"{first}/{rest}")
    if match is None:
        raise InvalidArgument(f'image name "{name}"')
    return match[0] if match["tag"] or match["digest"] else f"{match[0]}:latest"


def familiar(name: str) -> str:
    """The short form that docker shows; a name that docker does not know stays as it is."""
    try:
        full = normalized(name)
    except InvalidArgument:
        return name
    return full.removeprefix(f"{_HUB}/").removeprefix("library/") if full.startswith(f"{_HUB}/") else full


def tag_of(name: str) -> str:
    """What comes after the repository: the tag, or ``@`` and the digest; empty without either (IMG-053)."""
    _, _, path = name.partition("/")
    match = re.search(r"[:@]", path)
    if match is None:
        return ""
    return path[match.start() :] if match[0] == "@" else path[match.end() :]


class Naming:
    """Which name, if any, a descriptor in an archive gives an image (IMG-041, 042).

    Args:
        base: repository that tags without one belong to.
        strict: leave out full names outside ``base``.
    """

    IMAGE = "io.containerd.image.name"
    REF = "org.opencontainers.image.ref.name"

    def __init__(self, base: str, *, strict: bool) -> None:
        self._base = base
        self._strict = strict

    def name(self, annotations: dict[str, str]) -> str:
        """The image's name; empty when there is to be no image."""
        if annotations.get(self.IMAGE):
            return annotations[self.IMAGE]
        ref = annotations.get(self.REF, "")
        if not ref:
            return ""
        if not re.search("[/:@]", ref):
            return f"{self._base}:{ref}"
        return ref if not self._strict or self._below(ref) else ""

    def digest_name(self, digest: str) -> str:
        """The name of a manifest by its digest (IMG-043)."""
        return f"{self._base}@{digest}"

    def _below(self, name: str) -> bool:
        rest = name.removeprefix(self._base)
        return name.startswith(self._base) and (not rest or rest[0] in "/:@")
