"""What a removed image leaves behind, judged on both daemons: nothing, except what a lease holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from refimpl.api import leases_v1_pb2, leases_v1_pb2_grpc
from tests.acceptance import daemons, images
from tests.acceptance.images import OCI_NAME

_NAMESPACE = "collection"
_METADATA = (("containerd-namespace", _NAMESPACE),)

pytestmark = pytest.mark.debian("ctr")


@contextmanager
def _with_image(daemon: daemons.Daemon, archives: images.Images) -> Iterator[daemons.Daemon]:
    with daemons.running(daemon):
        _ctr(daemon, "images", "import", str(archives.oci))
        yield daemon


def _ctr(daemon: daemons.Daemon, *arguments: str) -> str:
    done = daemon.ctr("-n", _NAMESPACE, *arguments)
    assert done.code == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def _blobs(daemon: daemons.Daemon) -> set[str]:
    return set(_ctr(daemon, "content", "ls", "-q").split())


def _snapshots(daemon: daemons.Daemon) -> set[str]:
    return {line.split()[0] for line in _ctr(daemon, "snapshots", "ls").splitlines()[1:]}


def _hold(daemon: daemons.Daemon, kind: str, key: str) -> None:
    """Put a resource into a new lease; ``ctr`` has no command for it."""
    _ctr(daemon, "leases", "create", "--id", "holder")
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        leases_v1_pb2_grpc.LeasesStub(channel).AddResource(
            leases_v1_pb2.AddResourceRequest(id="holder", resource=leases_v1_pb2.Resource(id=key, type=kind)),
            metadata=_METADATA,
            timeout=daemons.COMMAND_SECONDS,
        )


def test_removing_an_image_removes_its_blobs_and_snapshots(either: daemons.Daemon, archives: images.Images) -> None:
    with _with_image(either, archives) as daemon:
        assert archives.digest("oci.layer1") in _blobs(daemon)
        assert archives.digest("oci.chain3") in _snapshots(daemon)

        _ctr(daemon, "images", "rm", "--sync", OCI_NAME)

        assert _blobs(daemon) == set()
        assert _snapshots(daemon) == set()
        left = [path for path in daemon.root.glob("**/blobs/sha256/*") if path.is_file()]
        assert left == [], "the bytes are gone from the disk too"


def test_a_leased_manifest_keeps_all_it_refers_to_until_the_lease_goes(
    either: daemons.Daemon, archives: images.Images
) -> None:
    with _with_image(either, archives) as daemon:
        _hold(daemon, "content", archives.digest("oci.manifest"))

        _ctr(daemon, "images", "rm", "--sync", OCI_NAME)

        named = ["oci.manifest", "oci.config", "oci.layer1", "oci.layer2", "oci.diff3"]
        assert _blobs(daemon) == {archives.digest(name) for name in named}
        # The config's label refers to the topmost snapshot, and that stands on the others.
        assert _snapshots(daemon) == {archives.digest(name) for name in ("oci.diff1", "oci.chain2", "oci.chain3")}

        _ctr(daemon, "leases", "rm", "--sync", "holder")

        assert _blobs(daemon) == set()
        assert _snapshots(daemon) == set()


def test_a_leased_layer_is_all_that_stays_of_its_image(either: daemons.Daemon, archives: images.Images) -> None:
    with _with_image(either, archives) as daemon:
        _hold(daemon, "content", archives.digest("oci.layer2"))

        _ctr(daemon, "images", "rm", "--sync", OCI_NAME)

        assert _blobs(daemon) == {archives.digest("oci.layer2")}
        assert _snapshots(daemon) == set()


def test_a_leased_snapshot_keeps_its_parents_but_no_blob(either: daemons.Daemon, archives: images.Images) -> None:
    with _with_image(either, archives) as daemon:
        _hold(daemon, "snapshots/overlayfs", archives.digest("oci.chain2"))

        _ctr(daemon, "images", "rm", "--sync", OCI_NAME)

        assert _blobs(daemon) == set()
        assert _snapshots(daemon) == {archives.digest(name) for name in ("oci.diff1", "oci.chain2")}
