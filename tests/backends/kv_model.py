"""Buckets as plain dictionaries: what every engine is compared with."""

from __future__ import annotations

from collections.abc import Callable

from refimpl.contract import kv
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound

Tree = dict[bytes, "bytes | Tree"]
Step = tuple[str, list[bytes], bytes, bytes]
"""What to do, the names that lead to the bucket, a name in it, a value."""


class Refused(Exception):
    """The model's answer to what a store refuses."""


class RollBack(Exception):
    """Ends a transaction that is not to be kept."""


class Model:
    """Buckets as plain dictionaries, sequences by path."""

    def __init__(self, tree: Tree | None = None, sequences: dict[tuple[bytes, ...], int] | None = None) -> None:
        self.tree = tree if tree is not None else {}
        self.sequences = sequences if sequences is not None else {}

    def bucket(self, path: list[bytes]) -> Tree | None:
        here: Tree = self.tree
        for name in path:
            below = here.get(name)
            if not isinstance(below, dict):
                return None
            here = below
        return here

    def apply(self, step: str, path: list[bytes], name: bytes, value: bytes) -> None:
        bucket = self.bucket(path)
        if bucket is None:
            return
        found = bucket.get(name)
        if step == "put":
            self.refuse(isinstance(found, dict))
            bucket[name] = value
        elif step == "delete":
            self.refuse(isinstance(found, dict))
            bucket.pop(name, None)
        elif step in {"create", "make"}:
            self.refuse(isinstance(found, bytes) or (step == "create" and found is not None))
            bucket.setdefault(name, {})
        elif step == "drop":
            self.refuse(not isinstance(found, dict))
            del bucket[name]
            gone = (*path, name)
            self.sequences = {key: n for key, n in self.sequences.items() if key[: len(gone)] != gone}
        else:
            self.sequences[tuple(path)] = self.sequences.get(tuple(path), 0) + 1

    @staticmethod
    def refuse(condition: bool) -> None:
        if condition:
            raise Refused


def walk(root: kv.Bucket, path: list[bytes]) -> kv.Bucket | None:
    bucket: kv.Bucket | None = root
    for name in path:
        bucket = bucket.bucket(name) if bucket is not None else None
    return bucket


def apply(root: kv.Bucket, step: str, path: list[bytes], name: bytes, value: bytes) -> None:
    bucket = walk(root, path)
    if bucket is None:
        return
    try:
        if step == "put":
            bucket.put(name, value)
        elif step == "delete":
            bucket.delete(name)
        elif step == "create":
            bucket.create_bucket(name)
        elif step == "make":
            bucket.create_bucket_if_not_exists(name)
        elif step == "drop":
            bucket.delete_bucket(name)
        else:
            bucket.next_sequence()
    except (AlreadyExists, InvalidArgument, NotFound) as err:
        raise Refused from err


def dump(bucket: kv.Bucket) -> Tree:
    """All that is in a bucket, by its own account."""
    tree: Tree = {}
    for key, value in bucket.items():
        below = bucket.bucket(key)
        assert (below is None) == (value is not None)
        tree[key] = value if value is not None else dump(below) if below is not None else {}
    assert list(tree) == sorted(tree), "keys come in byte order"
    return tree


def sequences(bucket: kv.Bucket, path: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], int]:
    found = {path: bucket.sequence} if bucket.sequence else {}
    for key in dump(bucket):
        below = bucket.bucket(key)
        if below is not None:
            found |= sequences(below, (*path, key))
    return found


def content(root: kv.Bucket) -> tuple[Tree, dict[tuple[bytes, ...], int]]:
    return dump(root), sequences(root)


def accepts(change: Callable[..., None], step: Step) -> bool:
    try:
        change(*step)
    except Refused:
        return False
    return True
