"""``contract.kv.Store`` on a file: who may read and write it when."""

from __future__ import annotations

import mmap
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refimpl.backends.real.bolt import freelist as freelists
from refimpl.backends.real.bolt.bucket import BoltBucket
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.format import FIRST_PAGE, LEAF, PAGE_HEADER, InvalidDatabase
from refimpl.backends.real.bolt.freelist import Freelist
from refimpl.backends.real.bolt.meta import META_SIZE, NO_FREELIST, Meta, choose
from refimpl.backends.real.bolt.transaction import Transaction
from refimpl.backends.real.bolt.walk import reachable
from refimpl.contract.errors import FailedPrecondition

_NEW_FREELIST, _NEW_ROOT, _NEW_PAGES = 2, 3, 4
_SECTOR = 512

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o711
"""Of meta.db and the directory around it. Whoever wants another mode makes the file, empty."""


class BoltStore:
    """A database in a file.

    Args:
        file: open; locked and closed by the store.
        timeout: seconds to wait for the file's lock; 0 waits for ever.
        sync_freelist: keep the list of free pages in the file, as containerd 1.6 does. Without it every commit writes a
            page less, and opening walks the whole tree; either reads the other's files.

    Raises:
        Unavailable: another process holds the lock.
        InvalidDatabase: it is no database, or damaged.
    """

    def __init__(self, file: File, *, timeout: float = 0.0, sync_freelist: bool = True) -> None:
        self.file = file
        self.sync_freelist = sync_freelist
        self.verified: set[int] = set()
        self.freelist = Freelist([])
        self.freelist_pages = 0
        self._writer = threading.Lock()
        self._changed = threading.Condition()
        self._readers: Counter[int] = Counter()
        self._open = 0
        self._closed = False
        self._given_up = False
        self.map: mmap.mmap
        try:
            file.lock(timeout)
            self._load()
        except BaseException:
            file.close()
            raise

    def _load(self) -> None:
        if not self.file.read_only and _is_unborn(self.file):
            _create(self.file)
        self._meta = choose(self.file.read, self.file.size(), mmap.PAGESIZE)
        self.map = self.file.map()
        if self._meta.freelist != NO_FREELIST:
            self._load_freelist()
            return
        if self.file.read_only:
            return
        used = reachable(self.map, self._meta)
        self.freelist = Freelist([page for page in range(FIRST_PAGE, self._meta.high_water) if page not in used])
        if self.sync_freelist:
            # As bbolt does; from now on the file tells it.
            with self.update():
                pass

    def _load_freelist(self) -> None:
        pgid, size = self._meta.freelist, self._meta.page_size
        own = freelists.place(self.map, pgid, self._meta.high_water, size)
        free = freelists.parse(self.map[own.start * size : own.stop * size], pgid, self._meta.high_water)
        self.freelist, self.freelist_pages = Freelist(free), len(own)
        for page in own:
            if page in self.freelist:
                raise InvalidDatabase("reachable freed: the free list is in itself", page)

    @contextmanager
    def view(self) -> Iterator[BoltBucket]:
        """A read transaction; gives the root bucket."""
        with self._changed:
            self._begin()
            meta = self._meta
            self._readers[meta.txid] += 1
        transaction = None
        try:
            transaction = Transaction(self, meta, writable=False)
            yield transaction.root
        finally:
            self._end(transaction, meta)

    @contextmanager
    def update(self) -> Iterator[BoltBucket]:
        """A write transaction; gives the root bucket. Other writers wait for its end."""
        with self._writer:
            with self._changed:
                self._begin()
            transaction = None
            try:
                if self.file.read_only:
                    raise FailedPrecondition("database is in read-only mode")
                if self._given_up:
                    raise FailedPrecondition("a commit has failed half-way: open the database again")
                transaction = Transaction(self, self._meta, writable=True)
                yield transaction.root
                transaction.commit()
            finally:
                self._end(transaction)

    def close(self) -> None:
        """Wait for open transactions; later ones are refused. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._open)
            self.map.close()
            self.file.close()

    def _begin(self) -> None:
        if self._closed:
            raise FailedPrecondition("database not open")
        self._open += 1

    def _end(self, transaction: Transaction | None, read: Meta | None = None) -> None:
        if transaction is not None:
            transaction.active = False
        with self._changed:
            if read is not None:
                self._readers[read.txid] -= 1
            self._open -= 1
            self._changed.notify_all()

    def readers(self) -> Iterable[int]:
        """The states that open read transactions show."""
        with self._changed:
            self._readers = +self._readers
            return list(self._readers)

    def publish(self, meta: Meta, freelist: Freelist, freelist_pages: int) -> None:
        """Make a committed state the newest."""
        with self._changed:
            if self.file.size() > len(self.map):
                # Readers keep the old map as long as they need it.
                self.map = self.file.map()
            self._meta, self.freelist, self.freelist_pages = meta, freelist, freelist_pages

    def give_up(self) -> None:
        """Refuse writers from now on; readers still see the last state that is known."""
        self._given_up = True


def _is_unborn(file: File) -> bool:
    """Whether the file is empty, or its creation was cut short: parts of what ``_create`` writes, and no meta page.

    Nothing can be lost in such a file, since nobody could have opened it.
    """
    size, page_size = file.size(), mmap.PAGESIZE
    if size not in {0, _NEW_PAGES * page_size}:
        return False
    found, whole = file.read(0, size), _first_pages(page_size)
    if any(found[page * page_size :][:META_SIZE].strip(b"\0") for page in (0, 1)):
        return False
    parts = ((found[at : at + _SECTOR], whole[at : at + _SECTOR]) for at in range(0, size, _SECTOR))
    return all(part == ours or not part.strip(b"\0") for part, ours in parts)


def _first_pages(page_size: int) -> bytes:
    """The pages of an empty database: two meta pages, an empty free list, an empty root."""
    metas = [Meta(page_size, _NEW_ROOT, 0, _NEW_FREELIST, _NEW_PAGES, txid).pack() for txid in (0, 1)]
    free = freelists.pack((), _NEW_FREELIST, 0).ljust(page_size, b"\0")
    return b"".join((*metas, free, PAGE_HEADER.pack(_NEW_ROOT, LEAF, 0, 0).ljust(page_size, b"\0")))


def _create(file: File) -> None:
    """Write an empty database. The meta pages come last: without one, the next opening begins anew."""
    page_size = mmap.PAGESIZE
    pages, metas = _first_pages(page_size), 2 * page_size
    file.grow(len(pages))
    file.write(pages[metas:], metas)
    file.sync()
    file.write(pages[:metas], 0)
    file.sync()
    file.sync_name()


class BoltStoreFactory:
    """A ``contract.kv.StoreFactory`` for files of bbolt's format."""

    def open(self, path: Path, *, timeout: float = 0.0) -> BoltStore:
        """Open the database that lives at ``path``, made if missing, with a missing directory around it.

        Args:
            timeout: seconds to wait for another process that holds it; 0 waits for ever (MET-016, MET-017).

        Raises:
            Unavailable: another process holds it. The text is bbolt's, ``timeout``.
            InvalidDatabase: it is no database, or damaged.
        """
        with suppress(FileExistsError):
            os.makedirs(path.parent, _DIRECTORY_MODE)
        return BoltStore(File(path, mode=_FILE_MODE), timeout=timeout)
