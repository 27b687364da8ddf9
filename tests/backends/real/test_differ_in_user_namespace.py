"""Unpacking in a user namespace, where nobody makes devices: the same by us and by the real containerd (DIF-025)."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from refimpl.archive.media_types import TAR
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import FileType, Mount
from refimpl.contract.types import Descriptor
from refimpl.linux.tree import DirectoryTree
from tests.acceptance import daemons
from tests.archive.archives import archive, file, special, whiteout
from tests.backends.real.worlds import bind, overlay

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "unshare")]

CTX = CallContext("default")


def apply(client: Client, data: bytes, mounts: Sequence[Mount]) -> None:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    writer = client.content.writer(CTX, digest, total=len(data))
    writer.write(data)
    writer.commit(CTX, len(data), digest, {"containerd.io/gc.root": "test"})
    client.diff.apply(CTX, Descriptor(TAR, digest, len(data)), mounts)


def types(path: Path) -> dict[str, FileType]:
    with DirectoryTree(str(path)) as tree:
        return {name: stat.type for name, stat in tree.walk() if name != "/"}


@pytest.fixture(params=["containerd", "refimpl"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("d")
    daemon = daemons.containerd(base) if request.param == "containerd" else daemons.refimpl(base, backends="real")
    # The root of the new namespace is the machine's, so that it may read and write what the test makes.
    daemon.command = ["unshare", "--map-root-user", "--mount", "--propagation", "slave", *daemon.command]
    with daemons.running(daemon), Client(str(daemon.socket)) as client:
        yield client


def test_devices_are_left_out_and_what_is_in_their_place_stays(client: Client, tmp_path: Path) -> None:
    null = special("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    apply(client, archive(file("null", b"old")), bind(tmp_path))
    apply(client, archive(null, special("pipe", tarfile.FIFOTYPE), file("new")), bind(tmp_path))
    assert types(tmp_path) == {"/new": FileType.FILE, "/null": FileType.FILE, "/pipe": FileType.FIFO}
    assert (tmp_path / "null").read_bytes() == b"old"


def test_the_kernel_makes_the_marks_of_an_overlay(client: Client, tmp_path: Path) -> None:
    for name in ("upper", "work", "lower"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/gone").write_bytes(b"")
    apply(client, archive(file("new"), whiteout(".wh.gone"), whiteout(".wh.never")), overlay(tmp_path))
    # A whiteout of nothing leaves no mark: it went through the mount.
    assert types(tmp_path / "upper") == {"/gone": FileType.CHAR, "/new": FileType.FILE}
