"""Bugs as they happen, one at a time, in the outsiders' plugins."""

from dataclasses import replace
from tempfile import mkdtemp

from refimpl.contract.content import Info
from refimpl.contract.snapshots import Kind
from tests.outsiders.copying import CopyingSnapshotter
from tests.outsiders.shelf import Shelf, ShelfWriter


class QuietReplace(CopyingSnapshotter):
    """A second prepare of a key replaces the first."""

    def _create(self, ctx, kind, key, parent, labels):
        self.infos.pop(key, None)
        return super()._create(ctx, kind, key, parent, labels)


class OpenParent(CopyingSnapshotter):
    """Any snapshot will do as a parent."""

    def stat(self, ctx, key):
        info = super().stat(ctx, key)
        return replace(info, kind=Kind.COMMITTED) if self.preparing else info

    preparing = False

    def _create(self, ctx, kind, key, parent, labels):
        self.preparing = True
        try:
            super()._create(ctx, kind, key, parent, labels)
        except Exception:
            if key not in self.infos:
                raise
        finally:
            self.preparing = False
        return self.mounts(ctx, key)


class WritableView(CopyingSnapshotter):
    """Views can be written to."""

    def mounts(self, ctx, key):
        return [replace(mount, options=("rbind", "rw")) for mount in super().mounts(ctx, key)]


class Unlocked(Shelf):
    """Two writers of one ref at a time."""

    def writer(self, ctx, ref, *, total=0, expected=""):
        self.open.discard(ref)
        return super().writer(ctx, ref, total=total, expected=expected)


class Trusting(Shelf):
    """The expected digest is believed."""

    def writer(self, ctx, ref, **announced):
        writer = super().writer(ctx, ref, **announced)
        writer.__class__ = TrustingWriter
        return writer


class TrustingWriter(ShelfWriter):
    def commit(self, ctx, size=0, expected="", labels=None):
        super().commit(ctx, size, "", labels)
        if expected:
            self.shelf.blobs[expected] = (Info(expected, len(self.data)), bytes(self.data))


class Forgetful(Shelf):
    """A writer that is opened again begins anew."""

    def writer(self, ctx, ref, **announced):
        if ref not in self.open:
            self.ingests.pop(ref, None)
        return super().writer(ctx, ref, **announced)


def quiet_replace():
    return QuietReplace(mkdtemp(prefix="copying-"))


def open_parent():
    return OpenParent(mkdtemp(prefix="copying-"))


def writable_view():
    return WritableView(mkdtemp(prefix="copying-"))


def unlocked():
    return Unlocked()


def trusting():
    return Trusting()


def forgetful():
    return Forgetful()
