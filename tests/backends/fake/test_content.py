"""The content store in memory: what makes it fit for large blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.content import MemoryContent, Shelf
from refimpl.backends.fake.host import FakeHost
from refimpl.kernel import assembled
from tests.backends.blobs import CTX, digest_of, put, read


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryContent:
    return MemoryContent(clock)


@given(pieces=st.lists(st.binary(max_size=70_000), max_size=6), data=st.data())
def test_every_range_of_a_blob_is_that_of_the_joined_pieces(pieces: list[bytes], data: st.DataObject) -> None:
    store, whole = MemoryContent(FakeClock()), b"".join(pieces)
    writer = store.writer(CTX, "ref")
    for piece in pieces:
        writer.write(piece)
    writer.commit(CTX, len(whole), digest_of(whole))
    reader = store.reader(CTX, digest_of(whole))
    offset = data.draw(st.integers(0, len(whole) + 2))
    size = data.draw(st.integers(0, len(whole) + 2))
    assert reader.read_at(offset, size) == whole[offset : offset + size]
    assert reader.size == len(whole)


def test_a_large_piece_is_held_once(store: MemoryContent) -> None:
    piece = bytes(1 << 20)
    writer = store.writer(CTX, "large")
    writer.write(piece)
    assert writer._ingest.content._pieces[0] is piece


def test_bytes_that_come_one_by_one_are_joined(store: MemoryContent) -> None:
    writer = store.writer(CTX, "small")
    for _ in range(1000):
        writer.write(b"x")
    assert len(writer._ingest.content._pieces) == 1


def test_what_one_store_put_on_a_shelf_the_next_one_finds(clock: FakeClock) -> None:
    shelf = Shelf()
    first = MemoryContent(clock, shelf)
    digest = put(first, b"hello")
    first.writer(CTX, "half").write(b"ha")
    second = MemoryContent(clock, shelf)
    assert read(second, digest) == b"hello"
    assert second.writer(CTX, "half").status().offset == 2, "no lock survives"


def test_the_plugin_exports_its_root_and_makes_no_directory(tmp_path: Path) -> None:
    host = FakeHost(FakeClock())
    wish = {"root": tmp_path / "root", "state": tmp_path / "state", "resources": {FakeHost: host}}
    with assembled(backends="fake", entry_points=False, **wish) as plugins:
        plugin = plugins["io.containerd.content.v1.content"]
        assert plugin.exports == {"root": str(tmp_path / "root" / "io.containerd.content.v1.content")}
        store = plugin.instance()
        assert isinstance(store, MemoryContent)
        digest = put(store, b"kept")
    with assembled(backends="fake", entry_points=False, **wish) as plugins:
        again = plugins["io.containerd.content.v1.content"].instance()
        assert isinstance(again, MemoryContent)
        assert read(again, digest) == b"kept", "two kernels on one host are a restart"
    assert list(tmp_path.iterdir()) == []
