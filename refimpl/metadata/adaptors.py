"""What filters see of containers, images and leases (SVC-039)."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.contract import filters
from refimpl.contract.containers import Container
from refimpl.contract.errors import InvalidArgument
from refimpl.contract.images import Image
from refimpl.contract.leases import Lease


def parse(texts: Sequence[str]) -> filters.Filter:
    """Understand the filters of a list call.

    Raises:
        InvalidArgument: one does not parse. The lists of records say so twice, as containerd does.
    """
    try:
        return filters.parse(texts)
    except InvalidArgument as err:
        raise InvalidArgument(str(err)) from err


def container(record: Container) -> filters.Adaptor:
    """``id``, ``image``, ``runtime.name``, ``labels.<key>`` (CTR-016)."""

    def value(path: Sequence[str]) -> str | None:
        match path:
            case ["id", *_]:
                return record.id or None
            case ["image", *_]:
                return record.image or None
            case ["runtime", "name", *_]:
                return record.runtime.name or None
            case ["labels", *_]:
                return filters.map_value(path, record.labels)
        return None

    return value


def image(record: Image) -> filters.Adaptor:
    """``name``, ``target.digest``, ``target.mediatype``, ``labels.<key>``, ``annotations.<key>`` (IMG-009 to 011)."""

    def value(path: Sequence[str]) -> str | None:
        match path:
            case ["name", *_]:
                return record.name or None
            case ["target", "digest", *_]:
                return record.target.digest or None
            case ["target", "mediatype", *_]:
                return record.target.media_type or None
            case ["labels", *_]:
                return filters.map_value(path, record.labels)
            case ["annotations", *_]:
                return filters.map_value(path, record.target.annotations)
        return None

    return value


def lease(record: Lease) -> filters.Adaptor:
    """``id``, ``labels.<key>`` (LEA-006)."""

    def value(path: Sequence[str]) -> str | None:
        match path:
            case ["id", *_]:
                return record.id or None
            case ["labels", *_]:
                return filters.map_value(path, record.labels)
        return None

    return value
