"""Mutants of the differ: the call, what entries become, and which differ does the work.

Planted at ``differ`` is what goes wrong while a layer is unpacked: with the blob, or on the tree (``unpacking_to``).
What goes wrong while one is packed is in ``diff_layers``.
"""

# ruff: noqa: SLF001, ARG001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import errno
import io
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from conformance.mutants import diff_layers  # they register theirs
from conformance.mutants._diff import TAR, UNCOMPRESSED, Method, memory, owner, unpacking_to, whiteouts_as
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import argument, does_nothing, silent
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.mounts import FileType, Mount
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor
from refimpl.kernel.config import Section

__all__ = ["diff_layers"]

NOTHING = Descriptor(TAR, "sha256:" + "0" * 64, 0)
"""An answer of somebody who has done nothing."""

# ------------------------------------------------------------------------------------------------------------ the call


@mutant("DIF-001", "the answer repeats the blobs descriptor", at="differ", method="apply")
def _repeats(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    original(ctx, descriptor, *rest)
    return descriptor


def _stops_at_the_end(original: Method, ctx: CallContext, stream: Any, mounts: Sequence[Mount]) -> None:
    original(ctx, stream, mounts)
    change(stream, drain=does_nothing())


def _insists_on_a_header(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    if descriptor.size == 0 and descriptor.media_type != TAR:
        raise Unknown("unexpected EOF")
    answer: Descriptor = original(ctx, descriptor, *rest)
    return answer


def _no_foreign_layers(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    if "foreign" in descriptor.media_type or "nondistributable" in descriptor.media_type:
        raise Unknown(f"no processor for media-type {descriptor.media_type}")
    answer: Descriptor = original(ctx, descriptor, *rest)
    return answer


def _trusts_the_suffix(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    reader = owner(original)._content.reader(ctx, descriptor.digest)
    start = reader.read_at(0, 4)
    reader.close()
    if descriptor.media_type.endswith("gzip") and start[:2] != b"\x1f\x8b":
        raise Unknown("gzip: invalid header")
    answer: Descriptor = original(ctx, descriptor, *rest)
    return answer


def _first_member_only(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    def reader(inner: Method, *args: Any) -> Any:
        found = inner(*args)
        data = found.read_at(0, found.size)
        second = data.find(b"\x1f\x8b\x08", 3)
        return _Cut(data[:second]) if second > 0 else found

    store = owner(original)._content
    if "kept_by_mutant" not in vars(owner(original)):
        memory(original)["content"] = change(store, reader=reader)
    answer: Descriptor = original(ctx, descriptor, *rest)
    return answer


class _Cut:
    """A reader of less than there is."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Nothing is open."""


def _any_type_is_plain(descriptor: Descriptor) -> Descriptor:
    known = descriptor.media_type.startswith("application/vnd.") and "layer" in descriptor.media_type
    return descriptor if known or "rootfs" in descriptor.media_type else replace(descriptor, media_type=TAR)


def _encrypted_is_plain(descriptor: Descriptor) -> Descriptor:
    return replace(descriptor, media_type=descriptor.media_type.removesuffix("+encrypted"))


def _labels(original: Method, ctx: CallContext, descriptor: Descriptor, *rest: Any) -> Descriptor:
    answer: Descriptor = original(ctx, descriptor, *rest)
    path = f"labels.{UNCOMPRESSED}"
    owner(original)._content.update(ctx, Info(descriptor.digest, labels={UNCOMPRESSED: answer.digest}), [path])
    return answer


mutants(
    "differ",
    {
        "DIF-002": ("reading stops at the end of the archive", {"_unpack": _stops_at_the_end}),
        "DIF-003": ("a compressed layer needs a header", {"apply": _insists_on_a_header}),
        "DIF-004": ("foreign layers are refused", {"apply": _no_foreign_layers}),
        "DIF-005": ("the suffix is trusted", {"apply": _trusts_the_suffix}),
        "DIF-006": ("only the first member is read", {"apply": _first_member_only}),
        "DIF-007": ("an unknown type is a plain archive", {"apply": argument(1, _any_type_is_plain)}),
        "DIF-008": ("an encrypted layer is a plain one", {"apply": argument(1, _encrypted_is_plain)}),
        "DIF-009": ("a missing blob is an empty layer", {"apply": silent(NotFound, answer=NOTHING)}),
        "DIF-011": ("the blob is labelled", {"apply": _labels}),
        "DIF-012": ("only the first mount is performed", {"_unpack": argument(2, lambda mounts: mounts[:1])}),
        "DIF-013": ("a failing mount is ignored", {"apply": silent(Unknown, answer=NOTHING)}),
        "DIF-014": ("no mounts are the root directory", {"apply": silent(InvalidArgument, answer=NOTHING)}),
    },
)


@mutant("DIF-010", "a missing message is an empty one", at="grpc.diff", method="Apply")
def _reads_what_is_not_there(original: Method, request: Any, context: Any) -> Any:
    request.diff.SetInParent()
    return original(request, context)


# ------------------------------------------------------------------------------------------------- straight into layers


class _Whiteouts:
    """Whiteouts that are treated like those of ``right``, except where a subclass says otherwise."""

    wants_written = True

    def __init__(self, right: Any) -> None:
        self.right = right

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        return bool(self.right.convert(fs, header, path, written))


class _CarriedOut(_Whiteouts):
    """In an upper directory as on a plain tree."""

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        directory, base = posixpath.split(path)
        if not base.startswith(".wh."):
            return True
        hidden = posixpath.join(directory, base.removeprefix(".wh."))
        if fs.exists(hidden):
            fs.rmtree(hidden)
        return False


class _DroppedIfTaken(_Whiteouts):
    """A mark that does not go where it should is left out."""

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        try:
            return super().convert(fs, header, path, written)
        except FileExistsError:
            return False


def _without_parents(original: Method, ctx: Any, fs: Any, stream: Any, whiteouts: Any, parents: Any) -> None:
    original(ctx, fs, stream, whiteouts, ())


def _aufs_like_overlay(original: Method, mount: Mount) -> Any:
    found = original(mount)
    if mount.type != "aufs" or found is None:
        return found
    upper, lowers, _ = found
    return upper, lowers, _CarriedOut(None)


mutants(
    "differ",
    {
        "DIF-015": ("whiteouts are carried out in the upper directory", whiteouts_as(_CarriedOut)),
        "DIF-016": ("implied directories get 0755", {"_extract": _without_parents}),
        "DIF-017": ("a whiteout of what is there is dropped", whiteouts_as(_DroppedIfTaken)),
        "DIF-018": ("aufs whiteouts are carried out", {"_upper_directory": _aufs_like_overlay}),
    },
)


# -------------------------------------------------------------------------------------------------- what entries become


def _linked(original: Method, existing: str, path: str) -> None:
    fs = owner(original)
    if fs.lstat(existing).type is FileType.FILE:
        fs.write(path, fs.read(existing))
    else:
        original(existing, path)


def _small_numbers(
    original: Method, path: str, type: FileType, mode: int = 0o644, device: tuple[int, int] = (0, 0)
) -> None:
    original(path, type, mode, (device[0] & 0xFF, device[1] & 0xFF))


def _in_place(original: Method, path: str) -> None:
    if owner(original).lstat(path).type is not FileType.FILE:
        original(path)


def _root_too(original: Method, ctx: Any, fs: Any, *rest: Any) -> None:
    original(ctx, fs, *rest)
    fs.chmod("/", 0o700)


@mutant("DIF-028", "the root gets a time", at="differ", method="_extract")
def _root_dated(original: Method, ctx: Any, fs: Any, *rest: Any) -> None:
    original(ctx, fs, *rest)
    fs.utime("/", SECOND, SECOND)


def _cut_names(original: Method, path: str, mode: str = "rb") -> Any:
    directory, base = posixpath.split(path)
    return original(posixpath.join(directory, base[:50]), mode)


def _ends_in_a_hole(original: Method, path: str, mode: str = "rb") -> Any:
    file = original(path, mode)
    return _Sparse(file) if mode == "wb" else file


class _Sparse(io.RawIOBase):
    """A file that is written with holes where zeros are, and forgets the last one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        if not any(data):
            self._file.seek(len(data), io.SEEK_CUR)
            return len(data)
        return int(self._file.write(data))

    def close(self) -> None:
        self._file.close()
        super().close()


mutants(
    "differ",
    {
        "DIF-021": ("the owner is set last", unpacking_to(chmod=argument(1, lambda mode: mode & 0o777))),
        "DIF-022": (
            "times are cut to the second",
            unpacking_to(utime=lambda original, path, *times: original(path, *(t // SECOND * SECOND for t in times))),
        ),
        "DIF-023": (
            "directories keep the time of their last file",
            unpacking_to(
                utime=lambda original, path, *times: (
                    None if owner(original).lstat(path).type is FileType.DIRECTORY else original(path, *times)
                )
            ),
        ),
        "DIF-024": ("hard links are copies", unpacking_to(link=_linked)),
        "DIF-025": ("device numbers have eight bits", unpacking_to(mknod=_small_numbers)),
        "DIF-026": ("attributes get lost", unpacking_to(setxattr=does_nothing())),
        "DIF-027": ("files are written in place", unpacking_to(rmtree=_in_place)),
        "DIF-028": ("the root gets a mode", {"_extract": _root_too}),
        "DIF-029": ("long names are cut", unpacking_to(open=_cut_names)),
        "DIF-030": ("a file ends before its last hole", unpacking_to(open=_ends_in_a_hole)),
    },
)


class _Literal(_Whiteouts):
    """Whiteouts are files."""

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        return True


class _AllIsOlder(_Whiteouts):
    """An opaque mark empties the directory."""

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        return super().convert(fs, header, path, set())


class _AtTheEnd(_Whiteouts):
    """Whiteouts are carried out when the archive is unpacked."""

    def __init__(self, right: Any) -> None:
        super().__init__(right)
        self.gathered: list[tuple[Any, str]] = []

    def convert(self, fs: Any, header: Any, path: str, written: set[str]) -> bool:
        if not posixpath.basename(path).startswith(".wh."):
            return True
        self.gathered.append((header, path))
        return False


def _gathered(original: Method, ctx: Any, fs: Any, stream: Any, whiteouts: Any, parents: Any) -> None:
    late = _AtTheEnd(whiteouts)
    original(ctx, fs, stream, late, parents)
    for header, path in late.gathered:
        whiteouts.convert(fs, header, path, set())


def _passes_over(text: str) -> Method:
    """A call that succeeds where it should fail with this text."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Unknown as error:
            if text not in str(error):
                raise
            return NOTHING

    return method


mutants(
    "differ",
    {
        "DIF-031": ("whiteouts are left in the tree", whiteouts_as(_Literal)),
        "DIF-032": ("entries before the mark are removed too", whiteouts_as(_AllIsOlder)),
        "DIF-033": ("whiteouts are carried out at the end", {"_extract": _gathered}),
        "DIF-034": ("a whiteout that climbs is ignored", {"apply": _passes_over("invalid whiteout name")}),
    },
)


# --------------------------------------------------------------------------------------------------------------- safety


def _through_the_link(original: Method, path: str) -> None:
    if owner(original).lstat(path).type is not FileType.SYMLINK:
        original(path)


def _not_followed(original: Method, path: str) -> str:
    raise OSError(errno.ENOENT, "not followed", path)


def _makes_a_file(original: Method, existing: str, path: str) -> None:
    try:
        original(existing, path)
    except FileNotFoundError:
        owner(original).write(path, b"")


def _once_only(original: Method, ctx: CallContext, descriptor: Descriptor, mounts: Any, *rest: Any) -> Descriptor:
    done = memory(original)
    if descriptor.digest not in done:
        done[descriptor.digest] = original(ctx, descriptor, mounts, *rest)
    answer: Descriptor = done[descriptor.digest]
    return answer


mutants(
    "differ",
    {
        "DIF-035": ("the last symlink of a name is written through", unpacking_to(rmtree=_through_the_link)),
        "DIF-036": ("symlinks inside are not followed", unpacking_to(readlink=_not_followed)),
        "DIF-037": ("a hard link to nothing is an empty file", unpacking_to(link=_makes_a_file)),
        "DIF-039": ("a short read is the end", {"apply": _passes_over("unexpected EOF")}),
        "DIF-040": ("a layer is unpacked once", {"apply": _once_only}),
    },
)


@mutant("DIF-038", "impossible parents are passed over", at="differ", method="apply")
def _goes_on(original: Method, *args: Any, **kwargs: Any) -> Any:
    not_directories = _passes_over("not a directory")
    return _passes_over("too many links")(lambda *a, **k: not_directories(original, *a, **k), *args, **kwargs)


# ------------------------------------------------------------------------------------------------ which differ does it


@mutant("DIF-046", "any error is left to the next differ", at="service.diff", method="_first")
def _falls_through(original: Method, call: Any) -> Any:
    differs = owner(original)._differs
    for differ in differs[:-1]:
        try:
            return call(differ)
        except ContainerdError:
            continue
    return call(differs[-1])


@hooked("DIF-047", "an unknown differ is skipped silently")
class UnknownSkipped:
    """Reads the order without the names that nobody has."""

    def conformance_kernel(self, kernel: Any) -> None:
        """Change the configuration before the boot."""
        name = "io.containerd.service.v1.diff-service"
        section = kernel.configuration.plugins.get(name)
        if section is not None and "default" in section.values:
            known = [id for id in section.values["default"] if id != "nosuch"] or ["walking"]
            plugins = {**kernel.configuration.plugins, name: Section({**section.values, "default": known})}
            kernel.configuration = replace(kernel.configuration, plugins=plugins)
