"""``refimpl gc why`` on any daemon, the real one too: what keeps a blob or a snapshot, and that nothing does."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest

from refimpl.cli import main
from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.holders import CONTENT, SNAPSHOTS, Holders, Object, read
from refimpl.client.unpack import unpack
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.types import TypedAny
from tests.acceptance import daemons, images


@pytest.fixture
def image(client: Client, held: CallContext, archives: images.Images) -> Image:
    """An imported and unpacked image, kept by its record and by the lease of ``held``."""
    import_archive(held, client, archives.oci)
    (found,) = client.images.list(held)
    unpack(held, client, found.target, "native")
    return found


def asked(daemon: daemons.Daemon, ctx: CallContext, name: str, *more: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["gc", "why", name, "-a", str(daemon.socket), "-n", ctx.namespace, *more])
    return status, out.getvalue()


def why(daemon: daemons.Daemon, ctx: CallContext, name: str) -> dict[str, Any]:
    """What the command says, as values."""
    answer: dict[str, Any] = json.loads(asked(daemon, ctx, name, "--json")[1])
    return answer


def roots(answer: dict[str, Any]) -> set[tuple[str, str]]:
    """Type and name of everything that keeps the object."""
    return {(chain["root"]["type"], chain["root"]["key"]) for chain in answer["chains"]}


def everything(client: Client, ctx: CallContext) -> list[str]:
    """Every blob and snapshot, as the command takes them."""
    blobs = [info.digest for info in client.content.walk(ctx)]
    return blobs + [f"native/{info.name}" for info in client.snapshotter("native").walk(ctx)]


def test_an_image_keeps_all_that_it_was_made_of_then_the_lease_does_then_nothing(
    daemon: daemons.Daemon, client: Client, held: CallContext, image: Image
) -> None:
    ctx = held.with_lease("")
    answers = {name: why(daemon, ctx, name) for name in everything(client, ctx)}
    names = [name for name, answer in answers.items() if ("image", image.name) in roots(answer)]
    others = [answer for name, answer in answers.items() if name not in names]
    # The archive's own index.json is a blob of the import, not of the image.
    assert len(names) > 5
    assert len(others) <= 1
    assert all(roots(answer) == {("lease", held.lease)} for answer in others)

    client.images.delete(ctx, image.name, sync=True)
    assert set(names) <= set(everything(client, ctx)), "the lease keeps them"
    for name in names:
        assert roots(why(daemon, ctx, name)) == {("lease", held.lease)}, name

    client.leases.delete(ctx, held.lease)
    left = Holders(ctx.namespace)
    with contextlib.suppress(NotFound):
        left = read(client, ctx)
    # The end of the lease sets off a collection by itself: what is still there by now is kept by nothing.
    assert not any(left.chains(found) for found in left.objects)
    client.leases.delete(ctx, client.leases.create(ctx).id, sync=True)
    assert everything(client, ctx) == []


def test_what_nothing_keeps_is_said_to_go_and_ends_with_status_1(
    daemon: daemons.Daemon, client: Client, ctx: CallContext
) -> None:
    # One collection now, so that none is due (for what earlier tests did) while the blob is looked at.
    client.leases.delete(ctx, client.leases.create(ctx).id, sync=True)
    data = ctx.namespace.encode()
    writer = client.content.writer(ctx, "loose", total=len(data))
    writer.write(data)
    digest = writer.digest()
    writer.commit(ctx, len(data), digest)
    writer.close()

    status, text = asked(daemon, ctx, digest[7:20])
    assert (status, "nothing keeps it; the next collection removes it" in text) == (1, True), text
    client.leases.delete(ctx, client.leases.create(ctx).id, sync=True)
    assert everything(client, ctx) == []


def test_a_container_keeps_its_snapshot_and_the_layers_below(
    daemon: daemons.Daemon, client: Client, held: CallContext, image: Image
) -> None:
    snapshotter = client.snapshotter("native")
    top = next(info.name for info in snapshotter.walk(held) if not _has_children(client, held, info.name))
    snapshotter.prepare(held, "work", top)
    spec = Container(
        "c1",
        snapshotter="native",
        snapshot_key="work",
        runtime=RuntimeInfo("io.containerd.runc.v2"),
        spec=TypedAny("x", b"{}"),
    )
    client.containers.create(held, spec)
    answer = why(daemon, held, f"native/{top}")
    (chain,) = [chain for chain in answer["chains"] if chain["root"]["type"] == "container"]
    assert [step["because"] for step in chain["steps"]] == [
        "root file system of the container",
        "parent of the snapshot",
    ]


def test_the_chain_can_be_drawn(daemon: daemons.Daemon, held: CallContext, image: Image) -> None:
    status, mermaid = asked(daemon, held, image.target.digest, "--format", "mermaid")
    assert (status, mermaid.splitlines()[1]) == (0, "graph TD")
    assert f'["image<br/>{image.name}"]' in mermaid
    status, dot = asked(daemon, held, image.target.digest, "--format", "dot")
    assert (status, dot.splitlines()[0]) == (0, "digraph why {")


def test_a_name_that_fits_nothing_or_several_is_refused(
    daemon: daemons.Daemon, client: Client, held: CallContext, image: Image
) -> None:
    holders = read(client, held)
    with pytest.raises(NotFound, match="nothing is called nope"):
        holders.find("nope")
    with pytest.raises(InvalidArgument, match="may be any of"):
        holders.find("sha256:")
    assert asked(daemon, held, "nope")[0] == 1
    assert asked(daemon, held, image.target.digest, "--format", "png")[0] == 2


def test_a_flat_lease_holds_what_it_lists_and_no_label_further() -> None:
    index, layer = Object(CONTENT, "sha256:index"), Object(CONTENT, "sha256:layer")
    base, top = Object(f"{SNAPSHOTS}native", "base"), Object(f"{SNAPSHOTS}native", "top")
    holders = Holders("n")
    holders.add(index, {"containerd.io/gc.ref.content.l.0": "sha256:layer"})
    holders.add(layer, {})
    holders.add(base, {"containerd.io/gc.root": "x"})
    holders.add(top, {})
    holders.links[top].append((base, "parent of the snapshot"))
    lease = Object("lease", "l")
    for held in (index, top):
        holders.hold(lease, held, "listed by the lease", flat=True)
    assert [chain.root for chain in holders.chains(index)] == [lease]
    assert holders.chains(layer) == [], "its label does not count for a flat lease"
    assert {chain.root.type for chain in holders.chains(base)} == {"lease", "label"}


def _has_children(client: Client, ctx: CallContext, name: str) -> bool:
    return any(info.parent == name for info in client.snapshotter("native").walk(ctx))
