"""Identifiers: the names of namespaces, containers and leases, and the limits on labels.

Pure functions; the texts are those that containerd's clients see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.quoting import quoted

MAX_IDENTIFIER = 76
"""Longest identifier, in bytes."""

MAX_LABEL = 4096
"""Longest label, key and value together, in bytes."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*\Z")


def validate_identifier(text: str) -> None:
    """Accept letters and digits in runs separated by single ``.``, ``_`` or ``-``.

    Raises:
        InvalidArgument: empty, longer than 76 bytes, or of another form.
    """
    if not text:
        raise InvalidArgument("identifier must not be empty")
    if len(text.encode()) > MAX_IDENTIFIER:
        raise InvalidArgument(f"identifier {quoted(text)} greater than maximum length ({MAX_IDENTIFIER} characters)")
    if not _IDENTIFIER.match(text):
        raise InvalidArgument(f"identifier {quoted(text)} must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$")


def validate_namespace(text: str) -> None:
    """Namespaces are identifiers.

    Raises:
        InvalidArgument: not a valid identifier.
    """
    validate_identifier(text)


def validate_label(key: str, value: str) -> None:
    """A label's key and value together take at most 4096 bytes.

    Raises:
        InvalidArgument: the label is too long.
    """
    size = len(key.encode()) + len(value.encode())
    if size > MAX_LABEL:
        raise InvalidArgument(f"label key and value greater than maximum size ({MAX_LABEL} bytes), key: {key[:10]}")


def validate_labels(labels: Mapping[str, str]) -> None:
    """Every label is valid.

    Raises:
        InvalidArgument: the first label that is not.
    """
    for key, value in labels.items():
        validate_label(key, value)
