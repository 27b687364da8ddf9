"""A disk that refuses writes: the transaction fails, the state before stays, and the next one works again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.store import BoltStore
from tests.backends.kv_model import Model, content
from tests.backends.real.bolt.workload import inspected, opened, steps, transact

META_PAGES = 2 * os.sysconf("SC_PAGE_SIZE")


class FullDisk(File):
    """A file that takes a part of some writes and refuses the rest.

    Never of the meta pages: they have their place on the disk since the file was made.
    """

    chance: Random | None = None

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it, or a beginning."""
        if self.chance is not None and offset >= META_PAGES and self.chance.random() < 0.4:
            super().write(data[: self.chance.randrange(len(data))], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        super().write(data, offset)


@pytest.mark.parametrize("sync_freelist", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_transaction_that_finds_the_disk_full_changes_nothing_and_the_next_one_may_succeed(
    tmp_path: Path, seed: int, sync_freelist: bool
) -> None:
    random, model, refused = Random(seed), Model(), 0
    file = FullDisk(tmp_path / "meta.db")
    store = BoltStore(file, sync_freelist=sync_freelist)
    file.chance = random
    try:
        for _ in range(60):
            changes = steps(random, model, random.randrange(1, 20), grow=random.random() < 0.7)
            try:
                model = transact(store, model, changes)
            except OSError:
                refused += 1
            with store.view() as root:
                assert content(root) == (model.tree, model.sequences)
    finally:
        store.close()
    assert 5 < refused < 55
    assert inspected(tmp_path / "meta.db").problems == []
    with opened(tmp_path / "meta.db") as again, again.view() as root:
        assert content(root) == (model.tree, model.sequences)


@pytest.mark.parametrize("refused", [lambda file: file.write(b"x", 0), lambda file: file.grow(1)])
def test_what_the_system_refuses_is_told_with_the_name_of_the_file(
    tmp_path: Path, refused: Callable[[File], None]
) -> None:
    file = File(tmp_path / "meta.db")
    file.close()
    with pytest.raises(OSError, match="meta\\.db") as raised:
        refused(file)
    assert raised.value.errno == errno.EBADF
