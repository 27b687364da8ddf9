"""What two runs of the same command may differ in, replaced by names: ids, times, sizes on disk and paths.

Nothing else is touched: a word, a column, an order or an exit status that differs is a finding. Values that can be
recognised again keep their identity: the first unknown digest of a run is ``<digest 1>`` wherever it comes back.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.acceptance.images import EPOCH

Mask = Callable[[str], str]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?<=blobs/sha256/)[0-9a-f]{64}")
_LOG_TIME = re.compile(r'(?<=time=")[^"]+')
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| \+0000 UTC|[+-]\d\d:\d\d)")
_AGE = re.compile(r"Less than a second|About a minute|\d+ (?:second|minute)s?\b(?! ago)")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
# ctr and the leases service make ids from the nanosecond and three random bytes in base64.
_RANDOM_ID = re.compile(r"\b\d{4,9}-[A-Za-z0-9_-]{4}(?![A-Za-z0-9_-])")
_SNAPSHOT_DIRECTORY = re.compile(r"(?<=/snapshots/)\d+\b")
# Below the metadata layer a snapshot's key is namespace/number/key, and some messages quote that.
_BACKEND_KEY = re.compile(r'(?<=")([\w.-]+)/\d+/')
# The differ mounts what it works on where it likes; a fake host mounts nothing that others could see.
_TEMPORARY_MOUNT = re.compile(r"\S*containerd-mount\d+")
_LABELS = re.compile(r"(?<!\S)[^\s,=]+=[^\s,]*(?:,[^\s,=]+=[^\s,]*)+(?!\S)")
_GAP = re.compile(r"(?<=\S)[ \t]+")
_TEXT_LIMIT = 20_000


class Normaliser:
    """The replacements of one run of the script against one daemon.

    Args:
        digests: The known digests and their names.
        places: The paths that belong to the run, and what to write instead.
    """

    def __init__(self, digests: Mapping[str, str], places: Mapping[Path, str]) -> None:
        self._known = {digest: f"<{name}>" for digest, name in digests.items()}
        self._met: dict[str, str] = {}
        self._directories: dict[str, str] = {}
        self._places = sorted(((str(path), name) for path, name in places.items()), key=lambda pair: -len(pair[0]))

    def output(self, data: bytes, mask: Mask | None = None) -> str:
        """Standard output or error as text: a stream that is no text becomes its digest or, if a tar, its listing."""
        if _is_tar(data):
            return self.listing(data)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if len(data) > _TEXT_LIMIT or (data and not text) or "\0" in text:
            return f"{self._digest('sha256:' + hashlib.sha256(data).hexdigest())}, {len(data)} bytes\n"
        text = self.text(text)
        return mask(text) if mask else text

    def text(self, text: str) -> str:
        """Lines of text with everything replaced that may differ."""
        for path, name in self._places:
            text = text.replace(path, name)
        text = _TEMPORARY_MOUNT.sub("<mount>", text)
        text = _DIGEST.sub(lambda found: self._digest(found[0]), text)
        text = _LOG_TIME.sub("<time>", text)
        text = _TIME.sub("<time>", text)
        text = _AGE.sub("<age>", text)
        text = _UUID.sub("<uuid>", text)
        text = _RANDOM_ID.sub("<id>", text)
        text = _BACKEND_KEY.sub(r"\1/<n>/", text)
        text = self._snapshot_directories(text)
        return "".join(_line(line) + "\n" for line in text.splitlines())

    def listing(self, data: bytes) -> str:
        """The members of a tar stream, compressed or not: all that identifies them but times that a daemon chose."""
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        lines = []
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                content = (
                    self._content(member.name, stream.read())
                    if stream
                    else f"-> {member.linkname}"
                    if member.linkname
                    else ""
                )
                kept = "" if member.mtime in {EPOCH, 0} else " <time>"
                attributes = "".join(
                    f" {key}={value}" for key, value in sorted(member.pax_headers.items()) if "xattr" in key
                )
                name = self.text(member.name).rstrip("\n")
                lines.append(
                    f"{member.type.decode()} {member.mode:04o} {member.uid}:{member.gid} {name} {content}".rstrip()
                    + f"{attributes}{kept}\n"
                )
        return "".join(lines) or "(an empty archive)\n"

    def _content(self, name: str, data: bytes) -> str:
        if name == "manifest.json":  # the list for docker is made from a Go map
            data = json.dumps(sorted(json.loads(data), key=json.dumps)).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return self._known[digest] if digest in self._known else f"{len(data)} bytes {digest[7:19]}"

    def _digest(self, digest: str) -> str:
        full = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        if full in self._known:
            return self._known[full]
        return self._met.setdefault(full, f"<digest {len(self._met) + 1}>")

    def _snapshot_directories(self, text: str) -> str:
        """Number the directories in their order of appearance in the run, so that the order of layers can be seen."""
        seen = self._directories
        return _SNAPSHOT_DIRECTORY.sub(lambda found: seen.setdefault(found[0], f"<{len(seen) + 1}>"), text)


def disk_sizes(text: str) -> str:
    """For ``snapshots usage``: the SIZE column depends on the file system, the number of inodes does not."""
    return re.sub(r"(?m)^(\S+) (?:[\d.]+ [KMG]?i?B|\d+) (\d+)$", r"\1 <size> \2", text)


def first_three_columns(text: str) -> str:
    """For ``plugins ls``: a fake is ``ok`` where the real plugin lacks a file system, so the status is left out."""
    return "".join(" ".join(line.split()[:3]) + "\n" for line in text.splitlines())


def versions(text: str) -> str:
    """For ``version``: each daemon has its own, and ``ctr`` warns that they differ."""
    return re.sub(r"(?m)^(\s*(?:Version|Revision):).*$", r"\1 <version>", text)


def no_warnings(text: str) -> str:
    """For the standard error of ``version``."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("WARNING: "))


def sorted_lines(text: str) -> str:
    """For a report on a Go map, whose order is another each time."""
    return "".join(sorted(text.splitlines(keepends=True)))


def kind_only(text: str) -> str:
    """For messages that quote a library or a path of the implementation: only the kind of the error, its last words."""
    return "".join(f"... {line.rpartition(': ')[2]}\n" for line in text.splitlines() if line.startswith("ctr: "))


def _line(line: str) -> str:
    # Mount options are a list whose order matters; labels come out of a Go map in any order.
    if not line.startswith("mount "):
        line = _LABELS.sub(lambda found: ",".join(sorted(found[0].split(","))), line)
    # Columns are as wide as their longest value, and that may have been an age.
    return _GAP.sub(" ", line).rstrip()


def _is_tar(data: bytes) -> bool:
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError):
            return False
    # An archive without members is nothing but zeros, two blocks of 512 bytes at least.
    return data[257:262] == b"ustar" or (len(data) >= 1024 and not any(data))
