"""Small value types that several plugin types share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.quoting import quoted


@dataclass(frozen=True, slots=True)
class TypedAny:
    """A message whose type is named beside its bytes (protobuf's Any, containerd's type URLs).

    Attributes:
        type_url: the type's name; containerd's own have no ``type.googleapis.com/`` prefix.
        value: the encoded message.
    """

    type_url: str = ""
    value: bytes = b""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is: its media type, digest and size (OCI descriptor).

    Attributes:
        size: bytes.
    """

    media_type: str = ""
    digest: str = ""
    size: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor, such as linux/amd64 or linux/arm64/v8."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The platform that a configuration names as ``OS/ARCHITECTURE[/VARIANT]``; arm64 without one means v8.

        Raises:
            InvalidArgument: too few or too many parts, or an empty one.
        """
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise InvalidArgument(f"{quoted(text)} is an invalid platform")
        os, architecture, *variant = parts
        default = "v8" if architecture == "arm64" else ""
        return cls(os, architecture, variant[0] if variant else default)
