"""Archives made entry by entry, with Python's own tarfile so that ours reads what somebody else wrote."""

from __future__ import annotations

import io
import tarfile
from typing import Any

Entry = tuple[str, dict[str, Any]]


def archive(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with these entries; ``data`` is the content, all else an attribute of ``TarInfo``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, attributes in entries:
            info = tarfile.TarInfo(name)
            for attribute, value in attributes.items():
                if attribute != "data":
                    setattr(info, attribute, value)
            data = attributes.get("data", b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"x", **attributes: Any) -> Entry:
    return name, {"data": data, **attributes}


def directory(name: str, **attributes: Any) -> Entry:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **attributes}


def symlink(name: str, text: str, **attributes: Any) -> Entry:
    return name, {"type": tarfile.SYMTYPE, "linkname": text, **attributes}


def hardlink(name: str, existing: str, **attributes: Any) -> Entry:
    return name, {"type": tarfile.LNKTYPE, "linkname": existing, **attributes}


def special(name: str, type: bytes, **attributes: Any) -> Entry:
    return name, {"type": type, **attributes}


def whiteout(name: str) -> Entry:
    return name, {}
