"""Who a container's process is: numbers, or names that the image's own ``/etc/passwd`` and ``/etc/group`` explain.

containerd's clients mount the root file system to look into these files, which takes root, and the daemon's own disk.
Here they are read out of the layers' archives, from the top layer down, through the content store alone.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import zstandard

from refimpl.client.archive import CHUNK, opened
from refimpl.contract.content import ContentStore, Reader
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.types import Descriptor

_PASSWD, _GROUP = "etc/passwd", "etc/group"
_LARGEST = 1024 * 1024
_MAX_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class User:
    """A user by numbers.

    Attributes:
        groups: those that the user is in besides ``gid``.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)

    def document(self) -> dict[str, Any]:
        """As the runtime spec has it."""
        return {"uid": self.uid, "gid": self.gid, **({"additionalGids": list(self.groups)} if self.groups else {})}


def find(ctx: CallContext, content: ContentStore, layers: Sequence[Descriptor], text: str) -> User:
    """The user that a text means: ``UID``, ``NAME``, each also with ``:GID`` or ``:GROUP``; empty is root.

    Only names, and a UID without its group, cost a look into the image.

    Args:
        layers: of the image, the lowest first.

    Raises:
        NotFound: no such name in the image.
        InvalidArgument: a number that is none.
    """
    name, _, group = text.partition(":")
    if name in {"", "0", "root"} and not group:
        return User()
    if name.isdecimal() and group.isdecimal():
        return User(_id(name), _id(group), ())
    files = _Files(ctx, content, layers)
    entry = next((line for line in files.lines(_PASSWD, 4) if line[2 if name.isdecimal() else 0] == name), None)
    if entry is None and not name.isdecimal():
        raise NotFound(f'user "{name}" in the image')
    uid = _id(entry[2] if entry else name)
    gid = _id(entry[3]) if entry else 0
    login = entry[0] if entry else ""
    groups = list(files.lines(_GROUP, 3))
    if group.isdecimal():
        gid = _id(group)
    elif group:
        found = next((line for line in groups if line[0] == group), None)
        if found is None:
            raise NotFound(f'group "{group}" in the image')
        gid = _id(found[2])
    others = tuple(_id(line[2]) for line in groups if login and len(line) > 3 and login in line[3].split(","))
    return User(uid, gid, () if group else others)


def _id(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_ID:
        raise InvalidArgument(f'user or group id "{text}"')
    return int(text)


class _Files:
    """The two files of an image, read when they are asked for: one walk over the layers finds both."""

    def __init__(self, ctx: CallContext, content: ContentStore, layers: Sequence[Descriptor]) -> None:
        self._ctx, self._content, self._layers = ctx, content, layers
        self._found: dict[str, bytes] | None = None

    def lines(self, path: str, least: int) -> Iterator[list[str]]:
        """The lines of a file, split at colons; those with fewer than ``least`` parts mean nothing."""
        if self._found is None:
            self._found = self._search()
        for line in self._found.get(path, b"").decode(errors="replace").splitlines():
            parts = line.strip().split(":")
            if len(parts) >= least:
                yield parts

    def _search(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        hidden: set[str] = set()
        for layer in reversed(self._layers):
            here: dict[str, bytes] = {}
            removed: set[str] = set()
            reader = self._content.reader(self._ctx, layer.digest)
            try:
                with opened(_stream(reader, layer)) as archive:
                    for member in archive:
                        self._look(archive, member, here, removed)
            finally:
                reader.close()
            found |= {path: data for path, data in here.items() if path not in found and path not in hidden}
            hidden |= removed
            if all(path in found or path in hidden for path in (_PASSWD, _GROUP)):
                break
        return found

    @staticmethod
    def _look(archive: tarfile.TarFile, member: tarfile.TarInfo, here: dict[str, bytes], removed: set[str]) -> None:
        name = posixpath.normpath(member.name).lstrip("/")
        if name in {_PASSWD, _GROUP} and member.isreg():
            data = archive.extractfile(member)
            assert data is not None, "a regular file has bytes"
            here[name] = data.read(_LARGEST)
        elif name in {_PASSWD, _GROUP}:
            raise InvalidArgument(f"/{name} is no regular file in the image: name the user by UID:GID")
        elif name in {".wh.etc", ".wh..wh..opq", "etc/.wh..wh..opq"}:
            removed |= {_PASSWD, _GROUP}
        elif name in {"etc/.wh.passwd", "etc/.wh.group"}:
            removed.add(name.replace(".wh.", ""))


def _stream(reader: Reader, layer: Descriptor) -> BinaryIO:
    raw = cast("BinaryIO", io.BufferedReader(_Blob(reader), CHUNK))
    if layer.media_type.endswith("zstd"):
        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(raw))
    return raw


class _Blob(io.RawIOBase):
    """A blob as a file that is read from front to back."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._offset = reader, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        data = self._reader.read_at(self._offset, len(buffer))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
