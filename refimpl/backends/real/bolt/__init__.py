"""A database engine whose files are bbolt's: ``contract.kv`` on a real disk.

Reading the source, from the disk upwards: ``format`` and ``meta`` (what lies where), ``file`` (lock, map, writes),
``pages`` and ``nodes`` (a page as it is read, and as it is changed), ``freelist``, ``tree`` (one bucket's) and
``balance`` (its merging and splitting), ``bucket``, ``commit`` (places for new pages, and their order on the way to the
disk), ``transaction``, ``store``. ``walk`` and ``check`` look at a file as a whole. Twin: ``refimpl.backends.fake.kv``.
"""

from refimpl.backends.real.bolt.format import InvalidDatabase
from refimpl.backends.real.bolt.store import BoltStore, BoltStoreFactory

__all__ = ["BoltStore", "BoltStoreFactory", "InvalidDatabase"]
