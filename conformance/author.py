"""For authors of plugins: the suite on a plugin object, in the author's own test run.

Three lines do it. In ``conftest.py``::

    from conformance.author import PluginSubject


    def conformance_subjects(config):
        return [PluginSubject("mine", snapshotter=MySnapshotter(tmp), snapshotter_id="mine")]

and in any test module (``from conformance.suites.content import *`` for a content store)::

    from conformance.suites.snapshots import *  # noqa: F403

Only checks whose clauses bind the kind of plugin are run, and what needs more than the subject offers is skipped with
the missing word: nothing is red on the first run that is only a missing setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from conformance.needs import NEEDS
from conformance.subjects.base import Identity, Subject, SubjectError
from conformance.subjects.scoped import ScopedContent, ScopedSnapshotter
from refimpl.contract.content import ContentStore
from refimpl.contract.mounts import Mounter
from refimpl.contract.snapshots import Snapshotter


class PluginSubject(Subject):
    """One plugin object, or one of each kind, judged alone.

    Args:
        name: what reports call it.
        snapshotter, content: the objects.
        snapshotter_id: the id under which it would be registered.
        mounter: performs its mounts; without one, checks that look into file systems are skipped.
            ``conformance.subjects.mounter.KernelMounter()`` lets Linux do it (root).
        capabilities: further words of ``conformance.needs`` that hold (``mknod``, ``xattr``, ...).
        close: called at the end of the run.
        version: the plugin's version, for the report.
    """

    def __init__(
        self,
        name: str,
        *,
        snapshotter: Snapshotter | None = None,
        content: ContentStore | None = None,
        snapshotter_id: str = "",
        mounter: Mounter | None = None,
        capabilities: Iterable[str] = (),
        close: Callable[[], None] | None = None,
        version: str = "",
    ) -> None:
        super().__init__(name)
        if snapshotter is None and content is None:
            raise SubjectError(f"{name}: nothing to judge; give a snapshotter or a content store")
        words = frozenset(capabilities)
        if strange := sorted(words - set(NEEDS)):
            raise SubjectError(f"{name}: {strange[0]!r} is no capability; conformance.needs.NEEDS has the list")
        self.capabilities = words
        self.mounter = mounter
        self._close, self._version = close, version
        types: set[str] = set()
        self._uris: list[str] = []
        if snapshotter is not None:
            id = snapshotter_id or name
            self._snapshotter = ScopedSnapshotter(snapshotter)
            self.snapshotters = (id,)
            types.add("io.containerd.snapshotter.v1")
            self._uris.append(f"io.containerd.snapshotter.v1.{id}")
        if content is not None:
            self.content = ScopedContent(content)
            types.add("io.containerd.content.v1")
            self._uris.append("io.containerd.content.v1.content")
        self.types = frozenset(types)

    def snapshotter(self, id: str) -> Snapshotter:
        """The one there is."""
        if id not in self.snapshotters:
            raise SubjectError(f"{self.name} has no snapshotter {id}")
        return self._snapshotter

    def identity(self) -> Identity:
        """The object itself."""
        return Identity(self.name, self._version, dict.fromkeys(self._uris, "plugin object"))

    def close(self) -> None:
        """What the author asked for."""
        close, self._close = self._close, None
        if close is not None:
            close()
