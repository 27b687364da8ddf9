"""Digests: how content is named, ``<algorithm>:<lower-case hex>`` (CNT-001, IMG-004, LEA-012).

Pure functions over text and bytes. The algorithms are those of containerd: sha256, which everybody uses, sha384 and
sha512.
"""

from __future__ import annotations

import hashlib
import re

from refimpl.contract.errors import InvalidArgument

CANONICAL = "sha256"
"""The algorithm where nobody asks for another."""

_FORM = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


def validate(digest: str) -> None:
    """Accept a digest that could name content.

    Raises:
        InvalidArgument: not of that form, of an unknown algorithm, or of the wrong length. ``message`` is the bare
            reason, for callers whose text says more.
    """
    algorithm, _, encoded = digest.partition(":")
    if not algorithm or not encoded:
        raise InvalidArgument("invalid checksum digest format")
    if algorithm not in _HEX_DIGITS:
        known_form = _FORM.fullmatch(digest) is not None
        raise InvalidArgument("unsupported digest algorithm" if known_form else "invalid checksum digest format")
    if len(encoded.encode()) != _HEX_DIGITS[algorithm]:
        raise InvalidArgument("invalid checksum digest length")
    if not _HEX.fullmatch(encoded):
        raise InvalidArgument("invalid checksum digest format")


def from_bytes(data: bytes, algorithm: str = CANONICAL) -> str:
    """The digest of ``data``."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def split(digest: str) -> tuple[str, str]:
    """Algorithm and hex of a digest.

    Raises:
        InvalidArgument: as ``validate``.
    """
    validate(digest)
    algorithm, _, encoded = digest.partition(":")
    return algorithm, encoded


class Verifier:
    """Digests bytes as they come, and says whether they are what was expected.

    Args:
        expected: the digest that the bytes should have; its algorithm is used.

    Raises:
        InvalidArgument: not a digest.
    """

    def __init__(self, expected: str) -> None:
        self._algorithm, _ = split(expected)
        self._expected = expected
        self._hash = hashlib.new(self._algorithm)

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """Digest of what came so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    @property
    def verified(self) -> bool:
        """Whether what came so far is what was expected."""
        return self.digest == self._expected
