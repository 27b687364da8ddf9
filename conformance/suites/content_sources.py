"""Content, where blobs came from: the label that pulls write (CNT-108).

The registry is the check's own, on loopback; the client is the real command.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from conformance import clause
from conformance.suites._images import Archive, ctr  # a fixture
from conformance.suites._registry import HOST, registry  # a fixture

PULL = ("images", "pull", "--plain-http")

CTR = {"ctr", "wire"}

SOURCE = f"containerd.io/distribution.source.{HOST}"

LONGEST = 4096
"""Bytes that a label's key and value may have together."""


@clause("CNT-108", needs=CTR)
def test_every_pulled_blob_lists_the_repositories_it_was_pulled_from(ctr, unleased, content, registry):
    """Rejects: a second source that replaces the first, a repository twice, a key with the registry's port."""
    archive = Archive()
    made = archive.image()
    seen = []
    for repository in ("lib/two", "lib/one", "lib/two"):
        done = ctr(unleased, *PULL, registry.push(archive, made.manifest, repository, "1"))
        assert done.code == 0, done.err
        labels = [content.info(unleased, digest).labels for digest in made.blobs]
        seen.append({each.get(SOURCE) for each in labels})
        assert {key for each in labels for key in each if key.startswith("containerd.io/distribution.")} == {SOURCE}
    assert seen == [{"lib/two"}, {"lib/one,lib/two"}, {"lib/one,lib/two"}]


@clause("CNT-108", needs=CTR)
def test_sources_that_are_too_long_for_a_label_are_left_out(ctr, unleased, content, registry):
    """Rejects: a pull that fails on a label, or a list that is cut in the middle of a name."""
    archive = Archive()
    made = archive.image()
    digest = made.manifest.digest
    assert ctr(unleased, *PULL, registry.push(archive, made.manifest, "lib/one", "1")).code == 0
    info = content.info(unleased, digest)
    full = ",".join([f"lib/{number:0100}" for number in range(38)])
    content.update(unleased, type(info)(info.digest, info.size, labels={SOURCE: full}), [f"labels.{SOURCE}"])
    assert len(SOURCE) + len(full) <= LONGEST

    done = ctr(unleased, *PULL, registry.push(archive, made.manifest, f"lib/{'x' * 200}", "1"))

    assert done.code == 0, done.err
    assert content.info(unleased, digest).labels[SOURCE] == full
