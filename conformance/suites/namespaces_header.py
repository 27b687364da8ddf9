"""Namespaces: the header that every other call carries, what it means for events, and the labels that are for clients.

NSP-001, NSP-002, NSP-024 to NSP-027.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from conformance import clause, patience
from conformance.suites._containers import SERVICE as CONTAINERS
from conformance.suites._containers import Ear, exists, ids, message, record
from conformance.suites._content import digest_of, fresh
from conformance.suites._images import ctr, simple
from conformance.suites._namespaces import NOBODY, name, names
from refimpl.api import containers_v1_pb2, content_v1_pb2, images_v1_pb2, leases_v1_pb2, snapshots_v1_pb2
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, FailedPrecondition, InvalidArgument, Unknown
from refimpl.contract.images import Image
from refimpl.contract.leases import Resource
from refimpl.contract.namespaces import Namespace
from refimpl.contract.types import Descriptor

LEASES = "containerd.services.leases.v1.Leases"
CONTENT = "containerd.services.content.v1.Content"
IMAGES = "containerd.services.images.v1.Images"
SNAPSHOTS = "containerd.services.snapshots.v1.Snapshots"

C, L = containers_v1_pb2, leases_v1_pb2


def _raw(id):
    """Calls of every kind, good but for the header: method -> request.

    Args:
        id: of everything that they name: a server that does as it likes must not meet what is somebody's.
    """
    held, digest = L.Resource(id=id, type="snapshots/overlayfs"), digest_of(id.encode())
    upload = content_v1_pb2.WriteContentRequest(action=content_v1_pb2.STAT, ref=id)
    return {
        f"{CONTAINERS}/Get": C.GetContainerRequest(id=id),
        f"{CONTAINERS}/List": C.ListContainersRequest(),
        f"{CONTAINERS}/ListStream": C.ListContainersRequest(),
        f"{CONTAINERS}/Create": C.CreateContainerRequest(container=message(record(id))),
        f"{CONTAINERS}/Update": C.UpdateContainerRequest(container=message(record(id))),
        f"{CONTAINERS}/Delete": C.DeleteContainerRequest(id=id),
        f"{LEASES}/Create": L.CreateRequest(id=id),
        f"{LEASES}/List": L.ListRequest(),
        f"{LEASES}/AddResource": L.AddResourceRequest(id=id, resource=held),
        f"{LEASES}/DeleteResource": L.DeleteResourceRequest(id=id, resource=held),
        f"{LEASES}/ListResources": L.ListResourcesRequest(id=id),
        f"{LEASES}/Delete": L.DeleteRequest(id=id),
        f"{CONTENT}/List": content_v1_pb2.ListContentRequest(),
        f"{CONTENT}/Info": content_v1_pb2.InfoRequest(digest=digest),
        f"{CONTENT}/Read": content_v1_pb2.ReadContentRequest(digest=digest),
        f"{CONTENT}/ListStatuses": content_v1_pb2.ListStatusesRequest(),
        f"{CONTENT}/Write": upload,
        f"{IMAGES}/Get": images_v1_pb2.GetImageRequest(name=id),
        f"{IMAGES}/List": images_v1_pb2.ListImagesRequest(),
        f"{SNAPSHOTS}/Stat": snapshots_v1_pb2.StatSnapshotRequest(snapshotter="overlayfs", key=id),
        f"{SNAPSHOTS}/List": snapshots_v1_pb2.ListSnapshotsRequest(snapshotter="overlayfs"),
        f"{SNAPSHOTS}/Prepare": snapshots_v1_pb2.PrepareSnapshotRequest(snapshotter="overlayfs", key=id),
    }


def _calls(id, containers, leases, content, images, snapshotter):
    """The same without a wire: name -> a call that takes a context."""
    held, digest = Resource(id, "snapshots/overlayfs"), digest_of(id.encode())
    image = Image(id, Descriptor("application/x", digest, 1))
    return {
        "containers.get": lambda ctx: containers.get(ctx, id),
        "containers.list": containers.list,
        "containers.create": lambda ctx: containers.create(ctx, record(id)),
        "containers.update": lambda ctx: containers.update(ctx, record(id)),
        "containers.delete": lambda ctx: containers.delete(ctx, id),
        "leases.create": lambda ctx: leases.create(ctx, id),
        "leases.list": leases.list,
        "leases.add_resource": lambda ctx: leases.add_resource(ctx, id, held),
        "leases.delete_resource": lambda ctx: leases.delete_resource(ctx, id, held),
        "leases.list_resources": lambda ctx: leases.list_resources(ctx, id),
        "leases.delete": lambda ctx: leases.delete(ctx, id),
        "content.info": lambda ctx: content.info(ctx, digest),
        "content.walk": lambda ctx: list(content.walk(ctx)),
        "content.list_statuses": lambda ctx: list(content.list_statuses(ctx)),
        "content.delete": lambda ctx: content.delete(ctx, digest),
        "images.get": lambda ctx: images.get(ctx, id),
        "images.list": images.list,
        "images.create": lambda ctx: images.create(ctx, image),
        "images.delete": lambda ctx: images.delete(ctx, id),
        "snapshotter.stat": lambda ctx: snapshotter.stat(ctx, id),
        "snapshotter.walk": lambda ctx: list(snapshotter.walk(ctx)),
        "snapshotter.prepare": lambda ctx: snapshotter.prepare(ctx, id),
        "snapshotter.remove": lambda ctx: snapshotter.remove(ctx, id),
    }


LOSES_THE_CODE = (f"{SNAPSHOTS}/List", "snapshotter.walk")
"""The real daemons lose the code here (SNP-004), and only here."""


def _all(refusals, kind, lost):
    """What the refusals have to be: all of one kind, or where a daemon loses it, of that which is left then."""
    return {what: lost if what in LOSES_THE_CODE and seen == lost else kind for what, seen in refusals.items()}


def _refusals(calls, ctx):
    """Name -> the error with which each call is refused in this context; None for one that is not."""
    found: dict[str, ContainerdError | None] = {}
    for what, call in calls.items():
        try:
            call(ctx)
        except ContainerdError as error:
            found[what] = error
        else:
            found[what] = None
    return found


@clause("NSP-001")
def test_a_call_without_a_namespace_is_refused(containers, leases, content, images, snapshotter, unique):
    """Rejects: the namespace default in the place of none, for reads too."""
    refusals = _refusals(_calls(unique("conform"), containers, leases, content, images, snapshotter), NOBODY)

    kinds = {what: type(error) for what, error in refusals.items()}
    assert kinds == _all(kinds, FailedPrecondition, Unknown)
    assert {what for what, error in refusals.items() if "namespace is required" not in str(error)} == set()


@clause("NSP-001", needs=("wire",))
@pytest.mark.parametrize("header", [None, ""], ids=["no header", "empty header"])
def test_an_empty_header_is_none(wire, unique, header):
    """Rejects: an empty value that names a namespace, or streams that look less closely."""
    answers = {
        method: wire.call(method, request, namespace=header) for method, request in _raw(unique("conform")).items()
    }

    codes = {method: answer.code for method, answer in answers.items()}
    assert codes == _all(codes, "FAILED_PRECONDITION", "UNKNOWN")
    assert {method for method, answer in answers.items() if "namespace is required" not in answer.message} == set()


@clause("NSP-002")
@pytest.mark.parametrize("bad", ["bad/ns", "../x", "a--b", "x" * 77, " t", "t "], ids=repr)
def test_a_call_in_a_namespace_of_a_bad_name_is_refused(
    containers, leases, content, images, snapshotter, namespaces, unique, bad
):
    """Rejects: a raw header that becomes a bucket or a path, blanks that are trimmed, reads that look less closely."""
    where = CallContext(namespace=bad)
    refusals = _refusals(_calls(unique("conform"), containers, leases, content, images, snapshotter), where)

    kinds = {what: type(error) for what, error in refusals.items()}
    assert kinds == _all(kinds, InvalidArgument, Unknown)
    assert {what for what, error in refusals.items() if "namespace validation" not in str(error)} == set()
    assert bad not in names(namespaces)


@clause("NSP-002", needs=("wire",))
@pytest.mark.parametrize("bad", ["bad/ns", " t", "x" * 77], ids=repr)
def test_a_bad_header_is_refused_on_streams_too(wire, unique, bad):
    """Rejects: streams that look less closely."""
    answers = {method: wire.call(method, request, namespace=bad) for method, request in _raw(unique("conform")).items()}

    codes = {method: answer.code for method, answer in answers.items()}
    assert codes == _all(codes, "INVALID_ARGUMENT", "UNKNOWN")
    assert {method for method, answer in answers.items() if "namespace validation" not in answer.message} == set()


@clause("NSP-002")
def test_a_call_in_a_namespace_of_a_good_name_works(containers, leases, name):
    """Rejects: names that are cut, folded to one case, or limited below 76 bytes."""
    lower = name("case{}")
    for good in (name("x" * 60 + "{}"), name("a.b.{}"), lower, name(lower.upper())):
        where = CallContext(namespace=good)
        assert containers.list(where) == []
        leases.create(where, "l")
        containers.create(where, record("c"))
        assert ids(containers, where) == ["c"]


@clause("NSP-024", needs=("wire",))
def test_the_first_of_several_headers_counts(wire, containers, name):
    """Rejects: the last value, values that are joined, or a header of another protocol."""
    first, second = name(), name()
    request = C.CreateContainerRequest(container=message(record("cc")))

    answer = wire.call(f"{CONTAINERS}/Create", request, headers={"containerd-namespace": first}, namespace=second)

    assert answer.ok, answer
    assert exists(containers, CallContext(namespace=first), "cc")
    assert not exists(containers, CallContext(namespace=second), "cc")
    answer = wire.call(f"{CONTAINERS}/Create", request, headers={"containerd-namespace-ttrpc": second})
    assert answer.code == "FAILED_PRECONDITION", answer


@clause("NSP-025")
@pytest.mark.parametrize("caller", ["", "conform-elsewhere"], ids=["no header", "another namespace"])
def test_a_subscriber_hears_all_namespaces(ctx, containers, events, new_namespace, caller):
    """Rejects: events of other namespaces that are held back, or told under the subscriber's."""
    first, second = new_namespace(lease=False), new_namespace(lease=False)
    told = Ear(events, ctx, [], CallContext(namespace=caller))
    try:
        for where in (first, second):
            containers.create(where, record("c"))
        heard = [h.namespace for h in told() if h.namespace in (first.namespace, second.namespace)]
    finally:
        told.close()

    assert heard == [first.namespace, second.namespace]


@clause("NSP-025")
def test_a_filter_selects_the_events_of_one_namespace(ctx, containers, events, new_namespace):
    """Rejects: a filter that selects nothing, or everything."""
    first, second = new_namespace(lease=False), new_namespace(lease=False)
    told = Ear(events, ctx, [f"namespace=={first.namespace}"], NOBODY)
    try:
        for where in (second, first):
            containers.create(where, record("c"))
        heard = [h.namespace for h in told()]
    finally:
        told.close()

    assert heard == [first.namespace]


DEFAULTS = {
    "containerd.io/defaults/snapshotter": "native",
    "containerd.io/defaults/runtime": "io.containerd.other.v1",
}


@clause("NSP-026", needs=())
def test_the_daemon_does_not_apply_labels_that_are_for_clients(ctx, namespaces, containers, name):
    """Rejects: a daemon that fills in what a caller has left out."""
    where = CallContext(namespace=name())
    namespaces.create(ctx, Namespace(where.namespace, DEFAULTS))
    assert namespaces.get(ctx, where.namespace).labels == DEFAULTS

    assert containers.create(where, record("c")).snapshotter == ""
    assert containers.get(where, "c").snapshotter == ""
    assert [container.snapshotter for container in containers.list(where)] == [""]
    with pytest.raises(InvalidArgument):
        containers.create(where, record("keyed", snapshot_key="k"))
    with pytest.raises(InvalidArgument):
        containers.create(where, Container("runtimeless", spec=record("c").spec))


@clause("NSP-026", needs=("wire", "snapshotter"))
def test_a_snapshotter_that_is_left_out_is_not_that_of_the_label(ctx, namespaces, wire, name):
    """Rejects: a daemon that picks the snapshotter for its caller."""
    where = name()
    namespaces.create(ctx, Namespace(where, DEFAULTS))

    answer = wire.call(f"{SNAPSHOTS}/Prepare", snapshots_v1_pb2.PrepareSnapshotRequest(key="k"), namespace=where)

    assert answer.code == "INVALID_ARGUMENT", answer


def _without_command():
    return shutil.which("ctr") is None


@clause("NSP-026", needs=("wire", "overlayfs"))
@pytest.mark.skipif(_without_command(), reason="the command ctr is not installed")
def test_a_client_takes_its_snapshotter_from_the_label(ctx, namespaces, snapshotters, subject, ctr, name, tmp_path):
    """Rejects: labels that a client cannot find."""
    if "native" not in subject.snapshotters:
        pytest.skip("the subject has no native snapshotter")
    labelled, plain = CallContext(namespace=name()), CallContext(namespace=name())
    namespaces.create(ctx, Namespace(labelled.namespace, {"containerd.io/defaults/snapshotter": "native"}))
    for where in (labelled, plain):
        archive = tmp_path / f"{where.namespace}.tar"
        archive.write_bytes(simple("docker.io/library/labelled:1")[1])
        done = ctr(where, "images", "import", str(archive))
        assert done.code == 0, done.err

    def used(where):
        return [id for id in ("native", "overlayfs") if list(snapshotters(id).walk(where))]

    assert used(labelled) == ["native"]
    assert used(plain) == ["overlayfs"]


@clause("NSP-027", needs=("wire", "config"))
@pytest.mark.skipif(_without_command(), reason="the command ctr is not installed")
def test_the_command_line_client_takes_its_namespace_from_option_variable_or_default(own, tmp_path):
    """Rejects: a daemon that knows the name default, or a client whose namespace does not arrive."""
    instance = own()
    environment = {k: v for k, v in os.environ.items() if k != "CONTAINERD_NAMESPACE"}

    def create(id, *options, **variables):
        asked = [*options, "containers", "create", "--rootfs", str(tmp_path), id]
        command = ["ctr", "--address", instance.address, *asked]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=3 * patience.SECONDS,
            check=False,
            env=environment | variables,
        )
        assert done.returncode == 0, done.stderr

    create("x", CONTAINERD_NAMESPACE="envns")
    create("z", "-n", "optns", CONTAINERD_NAMESPACE="envns")
    assert names(instance.namespaces) == ["envns", "optns"]
    create("y")

    assert names(instance.namespaces) == ["default", "envns", "optns"]
    found = {each: ids(instance.containers, CallContext(namespace=each)) for each in names(instance.namespaces)}
    assert found == {"default": ["y"], "envns": ["x"], "optns": ["z"]}
