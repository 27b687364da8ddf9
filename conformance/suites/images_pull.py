"""Images, from a registry: what ``ctr images pull`` makes of what a registry resolved (IMG-059).

The registry is the check's own, on loopback; the client is the real command, so what is judged of the subject is that
its stores carry such a client.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from conformance import clause
from conformance.suites._events import listen, opened  # a fixture
from conformance.suites._images import (
    GC_CONTENT,
    UNCOMPRESSED,
    Archive,
    ctr,  # a fixture
    digests,
    listed,
    names,
    other_platforms,
    tree,
)
from conformance.suites._registry import registry  # a fixture
from refimpl.client.platforms import host

PULL = ("images", "pull", "--plain-http")

CTR = {"ctr", "wire"}


def _index(archive):
    """An index with an image of this machine and one of another."""
    here, there = archive.image(), archive.image(platform=other_platforms()[0])
    index = archive.index(listed(here.manifest, host()), listed(there.manifest, other_platforms()[0]))
    return index, here, there


def _labels(content, ctx, digest, prefix):
    """The labels of a blob with this beginning, by the rest of their keys."""
    found = content.info(ctx, digest).labels
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


@clause("IMG-059", needs=CTR)
def test_a_pulled_image_points_at_the_index_that_its_name_resolved_to(
    ctr, unleased, content, images, leases, snapshotters, registry, listen, subject
):
    """Rejects: an image that points at its platform's manifest, a lease or an ingest that is left."""
    archive = Archive()
    index, here, there = _index(archive)
    name = registry.push(archive, index, "lib/one", "1")
    # The namespace comes with the lease of the check's context: what is new is what the pull left.
    before, told = leases.list(unleased), listen('topic~="^/images/"')

    done = ctr(unleased, *PULL, name)
    assert done.code == 0, done.err
    assert ctr(unleased, *PULL, name).code == 0, "an image that is there already"

    assert names(images, unleased) == [name]
    assert images.get(unleased, name).target == index
    assert _labels(content, unleased, index.digest, f"{GC_CONTENT}.") == {
        "m.0": here.manifest.digest,
        "m.1": there.manifest.digest,
    }
    uncompressed = [content.info(unleased, layer.blob.digest).labels[UNCOMPRESSED] for layer in here.layers]
    assert uncompressed == [layer.diff_id for layer in here.layers]
    assert set(tree(snapshotters(subject.snapshotters[0]), unleased)) == set(here.chain)
    found = digests(content, unleased)
    assert {index.digest, *here.blobs} <= found
    assert not found & {layer.blob.digest for layer in there.layers}
    assert (leases.list(unleased), content.list_statuses(unleased)) == (before, [])
    assert [(each.topic, opened(each).name) for each in told()][:1] == [("/images/create", name)]


@clause("IMG-059", needs=CTR)
def test_a_pull_of_a_tag_that_has_moved_updates_the_image(ctr, unleased, images, registry):
    """Rejects: an image that stays at what its tag named before."""
    archive = Archive()
    first, second = _index(archive)[0], _index(archive)[0]
    name = registry.push(archive, first, "lib/one", "1")
    assert ctr(unleased, *PULL, name).code == 0
    made = images.get(unleased, name)

    registry.push(archive, second, "lib/one", "1")
    assert ctr(unleased, *PULL, name).code == 0

    moved = images.get(unleased, name)
    assert (made.target, moved.target) == (first, second)
    assert moved.created_at == made.created_at, "the same record"
