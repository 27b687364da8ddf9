"""A key-value store of nested buckets with transactions, in bbolt's words.

The metadata database is written against this; engines are a file in bbolt's own format and a tree in memory.

A *bucket* maps byte keys to byte values or to further buckets, ordered by key. A key names either a value or a bucket
and is not empty; the key of a value has at most 32768 bytes, the name of a bucket as many as it likes: names of images
and leases are buckets, and longer ones have been seen (IMG-003, LEA-004). A bucket also carries a *sequence*, a counter
that lives and dies with it. Buckets and what they yield are valid only inside their transaction.

What is written inside a transaction is seen by later reads in it. A write transaction is all or nothing (MET-025), a
read transaction sees one state (MET-027), and writers go one by one (MET-028).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

MAX_KEY_SIZE = 32768
"""Longest key of a value, in bytes."""


class Bucket(Protocol):
    """One level of the tree."""

    def bucket(self, name: bytes) -> Bucket | None:
        """The bucket of that name; None if there is none (or a value has the name)."""
        ...

    def create_bucket(self, name: bytes) -> Bucket:
        """Make a bucket.

        Raises:
            AlreadyExists: there is one.
            InvalidArgument: an empty name, or that of a value.
        """
        ...

    def create_bucket_if_not_exists(self, name: bytes) -> Bucket:
        """The bucket of that name, made if missing; errors as ``create_bucket`` but for AlreadyExists."""
        ...

    def delete_bucket(self, name: bytes) -> None:
        """Remove a bucket and all in it.

        Raises:
            NotFound: there is none.
        """
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value; None if there is none (or a bucket has the name). An empty value is ``b""``."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value.

        Raises:
            InvalidArgument: an empty key, one that is too long, or the name of a bucket.
        """
        ...

    def delete(self, key: bytes) -> None:
        """Remove a value; what is not there is no error.

        Raises:
            InvalidArgument: the name of a bucket.
        """
        ...

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
        """Keys from ``start`` on, in byte order, with their values; None marks a bucket.

        The bucket must not change meanwhile.
        """
        ...

    @property
    def sequence(self) -> int:
        """The counter as it stands; 0 in a new bucket."""
        ...

    def next_sequence(self) -> int:
        """Count one up and answer with the new number."""
        ...


class Store(Protocol):
    """A database with one writer at a time. Readers see one state from begin to end and never wait for the writer."""

    def view(self) -> AbstractContextManager[Bucket]:
        """A read transaction; gives the root bucket. Changing anything in it raises ``FailedPrecondition``."""
        ...

    def update(self) -> AbstractContextManager[Bucket]:
        """A write transaction; gives the root bucket. Committed when the block ends, rolled back when it raises."""
        ...

    def close(self) -> None:
        """Wait for open transactions and let go of the database. Idempotent."""
        ...


class StoreFactory(Protocol):
    """Opens databases: whoever assembles the plugins decides with it which engine they use."""

    def open(self, path: Path, *, timeout: float = 0.0) -> Store:
        """Open the database that lives at ``path``, made if missing.

        Args:
            timeout: seconds to wait for another process that holds it; 0 waits for ever (MET-016, MET-017).

        Raises:
            Unavailable: another process holds it.
        """
        ...
