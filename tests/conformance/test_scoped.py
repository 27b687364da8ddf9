"""A bare plugin seen through containerd's keys: one key space never leaks into another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.subjects.scoped import ScopedContent, ScopedSnapshotter
from refimpl.contract.context import CallContext
from refimpl.contract.errors import FailedPrecondition, NotFound
from tests.outsiders.copying import CopyingSnapshotter
from tests.outsiders.shelf import Shelf

A, B = CallContext(namespace="a"), CallContext(namespace="b")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[CopyingSnapshotter]:
    plugin = CopyingSnapshotter(tmp_path / "root")
    plugin.root.mkdir()
    yield plugin
    plugin.close()


def test_a_snapshotter_gets_the_keys_that_containerd_would_send(bare: CopyingSnapshotter) -> None:
    scoped = ScopedSnapshotter(bare)
    scoped.prepare(A, "work")
    scoped.commit(A, "layer", "work", {"containerd.io/snapshot/x": "1"})
    scoped.view(A, "look", "layer")
    assert set(bare.infos) == {"a/1/layer", "a/1/look"}
    assert [info.name for info in scoped.walk(A)] == ["layer", "look"]
    assert scoped.stat(A, "look").parent == "layer"
    assert scoped.mounts(A, "look") == bare.mounts(A, "a/1/look")
    assert scoped.usage(A, "layer") == bare.usage(A, "a/1/layer")
    assert list(scoped.walk(B)) == []
    with pytest.raises(NotFound):
        scoped.stat(B, "layer")
    assert scoped.update(A, scoped.stat(A, "layer"), ["labels"]).name == "layer"
    scoped.remove(A, "look")
    scoped.cleanup(A)
    scoped.close()
    assert set(bare.infos) == {"a/1/layer"}


def test_a_snapshotter_is_not_asked_without_a_namespace(bare: CopyingSnapshotter) -> None:
    with pytest.raises(FailedPrecondition):
        ScopedSnapshotter(bare).prepare(CallContext(), "work")


def test_a_content_store_gets_refs_of_its_callers_and_digests_of_everybody() -> None:
    shelf = Shelf()
    scoped = ScopedContent(shelf)
    writer = scoped.writer(A, "up", total=3)
    assert writer.write(b"abc") == 3
    assert writer.status().ref == "up"
    assert [s.ref for s in scoped.list_statuses(A)] == ["up"]
    assert scoped.list_statuses(B) == []
    assert list(shelf.ingests) == ["a/1/up"]
    digest = writer.digest()
    writer.commit(A, 3, digest)
    writer.close()
    assert scoped.info(B, digest).size == 3
    assert scoped.reader(B, digest).read_at(1, 2) == b"bc"
    assert [info.digest for info in scoped.walk(A)] == [digest]
    scoped.delete(A, digest)
    again = scoped.writer(A, "up")
    again.truncate(0)
    again.close()
    assert scoped.status(A, "up").offset == 0
    scoped.abort(A, "up")
    with pytest.raises(NotFound):
        scoped.status(A, "up")
