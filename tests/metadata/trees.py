"""What a store holds, as nested dictionaries: names to bytes, or to what is in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refimpl.contract import kv

Tree = dict[str, Any]


def fill(bucket: kv.Bucket, tree: Mapping[str, Any]) -> None:
    """Write a tree into an empty bucket."""
    for name, value in tree.items():
        if isinstance(value, bytes):
            bucket.put(name.encode(), value)
        else:
            fill(bucket.create_bucket(name.encode()), value)


def read(bucket: kv.Bucket) -> Tree:
    """All that is in a bucket."""
    tree: Tree = {}
    for key, value in bucket.items():
        below = bucket.bucket(key)
        tree[key.decode()] = read(below) if below is not None else value
    return tree


def dump(store: kv.Store) -> Tree:
    """All that is in a store."""
    with store.view() as root:
        return read(root)


def records(store: kv.Store, *path: str) -> Tree:
    """What is in the bucket at the end of ``path`` below ``v1``."""
    tree = dump(store)["v1"]
    for step in path:
        tree = tree[step]
    assert isinstance(tree, dict)
    return tree
