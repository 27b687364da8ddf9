"""A bare plugin seen through the keys that containerd would give it.

A snapshotter or content store behind the metadata layer never sees a client's key: it sees ``<namespace>/<n>/<key>``.
These adapters do the same, so that checks which run at the same time do not meet in one key space, and so that a plugin
judged alone gets what it will get in real life. Only labels that containerd passes on are passed on here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from refimpl.contract import content as c
from refimpl.contract import snapshots as s
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount

Labels = Mapping[str, str] | None


class _Keys:
    """The translation of names in one namespace."""

    def __init__(self, ctx: CallContext) -> None:
        self._prefix = f"{ctx.require_namespace()}/1/"

    def inward(self, key: str) -> str:
        """As the plugin sees it. An empty name stays empty: it means none."""
        return f"{self._prefix}{key}" if key else ""

    def outward(self, key: str) -> str:
        """As the check sees it."""
        return key.removeprefix(self._prefix)

    def owns(self, key: str) -> bool:
        """Whether the key belongs to the namespace."""
        return key.startswith(self._prefix)


class ScopedSnapshotter:
    """A ``Snapshotter`` over a bare one."""

    def __init__(self, bare: s.Snapshotter) -> None:
        self._bare = bare

    def _out(self, keys: _Keys, info: s.Info) -> s.Info:
        return replace(info, name=keys.outward(info.name), parent=keys.outward(info.parent))

    def stat(self, ctx: CallContext, key: str) -> s.Info:
        keys = _Keys(ctx)
        return self._out(keys, self._bare.stat(ctx, keys.inward(key)))

    def update(self, ctx: CallContext, info: s.Info, fieldpaths: Sequence[str] = ()) -> s.Info:
        keys = _Keys(ctx)
        return self._out(keys, self._bare.update(ctx, replace(info, name=keys.inward(info.name)), fieldpaths))

    def usage(self, ctx: CallContext, key: str) -> s.Usage:
        return self._bare.usage(ctx, _Keys(ctx).inward(key))

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        return self._bare.mounts(ctx, _Keys(ctx).inward(key))

    def prepare(self, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> list[Mount]:
        keys = _Keys(ctx)
        return self._bare.prepare(ctx, keys.inward(key), keys.inward(parent), labels)

    def view(self, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> list[Mount]:
        keys = _Keys(ctx)
        return self._bare.view(ctx, keys.inward(key), keys.inward(parent), labels)

    def commit(self, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
        keys = _Keys(ctx)
        self._bare.commit(ctx, keys.inward(name), keys.inward(key), labels)

    def remove(self, ctx: CallContext, key: str) -> None:
        self._bare.remove(ctx, _Keys(ctx).inward(key))

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[s.Info]:
        keys = _Keys(ctx)
        for info in self._bare.walk(ctx, filters):
            if keys.owns(info.name):
                yield self._out(keys, info)

    def cleanup(self, ctx: CallContext) -> None:
        if isinstance(self._bare, s.Cleaner):
            self._bare.cleanup(ctx)

    def close(self) -> None:
        """The plugin stays open: it is closed by whoever made it."""


class ScopedContent:
    """A ``ContentStore`` over a bare one. Refs are translated; digests are what they are, for everybody."""

    def __init__(self, bare: c.ContentStore) -> None:
        self._bare = bare

    def info(self, ctx: CallContext, digest: str) -> c.Info:
        return self._bare.info(ctx, digest)

    def update(self, ctx: CallContext, info: c.Info, fieldpaths: Sequence[str] = ()) -> c.Info:
        return self._bare.update(ctx, info, fieldpaths)

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[c.Info]:
        return self._bare.walk(ctx, filters)

    def delete(self, ctx: CallContext, digest: str) -> None:
        self._bare.delete(ctx, digest)

    def reader(self, ctx: CallContext, digest: str) -> c.Reader:
        return self._bare.reader(ctx, digest)

    def status(self, ctx: CallContext, ref: str) -> c.Status:
        keys = _Keys(ctx)
        return replace(self._bare.status(ctx, keys.inward(ref)), ref=ref)

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[c.Status]:
        keys = _Keys(ctx)
        return [
            replace(st, ref=keys.outward(st.ref)) for st in self._bare.list_statuses(ctx, filters) if keys.owns(st.ref)
        ]

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> c.Writer:
        keys = _Keys(ctx)
        return _ScopedWriter(self._bare.writer(ctx, keys.inward(ref), total=total, expected=expected), keys)

    def abort(self, ctx: CallContext, ref: str) -> None:
        self._bare.abort(ctx, _Keys(ctx).inward(ref))


class _ScopedWriter:
    def __init__(self, bare: c.Writer, keys: _Keys) -> None:
        self._bare, self._keys = bare, keys

    def write(self, data: bytes) -> int:
        return self._bare.write(data)

    def digest(self) -> str:
        return self._bare.digest()

    def status(self) -> c.Status:
        found = self._bare.status()
        return replace(found, ref=self._keys.outward(found.ref))

    def truncate(self, size: int) -> None:
        self._bare.truncate(size)

    def commit(self, ctx: CallContext, size: int = 0, expected: str = "", labels: Labels = None) -> None:
        self._bare.commit(ctx, size, expected, labels)

    def close(self) -> None:
        self._bare.close()
