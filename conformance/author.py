"""For authors of plugins: the suite on a plugin object, in the author's own test run.

Two short files do it. ``conftest.py`` says what is judged::

    from conformance.author import PluginSubject


    def conformance_subjects(config):
        return [PluginSubject("mine", snapshotter=MySnapshotter(tmp), snapshotter_id="mine")]

and a test module takes the checks in (``checks("content")`` for a content store)::

    from conformance.author import checks

    globals().update(checks("snapshots"))

Options, fixtures and the ``clause`` mark are there as soon as refimpl is installed. Only checks whose clauses bind the
kind of plugin are run, and what needs more than the subject offers is skipped with the missing word: nothing is red on
the first run that is only a missing setting.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

from conformance import fixtures
from conformance.areas import AREAS, BUILT
from conformance.needs import NEEDS
from conformance.subjects.base import Identity, Subject, SubjectError
from conformance.subjects.scoped import ScopedContent, ScopedSnapshotter
from refimpl.contract.content import ContentStore
from refimpl.contract.mounts import Mounter
from refimpl.contract.snapshots import Snapshotter

_FIXTURE = type(fixtures.ctx)
"""What ``pytest.fixture`` makes. Which class that is, pytest does not publish."""


def checks(*areas: str) -> dict[str, object]:
    """All that a test module needs to run some areas: their checks, and the fixtures that stand beside them.

    The suites are imported by this call, not with this module.

    Args:
        areas: names such as ``snapshots``; ``conformance.areas.BUILT`` lists them.

    Returns:
        Names to objects, for ``globals().update(...)``: pytest collects from a module what the module names.

    Raises:
        LookupError: no area is given, one does not exist, or one has no checks yet.
        NameError: two modules of the suite use one name for two things, so that one of the two would be lost. Areas
            that do not go together can each have a test module of their own.
    """
    if not areas:
        raise LookupError(f"name the areas whose checks are wanted; there are: {', '.join(BUILT)}")
    found: dict[str, object] = {}
    homes: dict[str, str] = {}
    for module in dict.fromkeys(module for area in areas for module in _modules(area)):
        for name, value in vars(importlib.import_module(module)).items():
            if not (name.startswith("test_") or isinstance(value, _FIXTURE)):
                continue
            if vars(fixtures).get(name, value) is not value:
                raise NameError(f"{module} has a fixture {name} that hides the one which all checks share")
            if found.setdefault(name, value) is not value:
                raise NameError(f"{module} and {homes[name]} both have {name}: give each a test module of its own")
            homes.setdefault(name, module)
    return found


def _modules(area: str) -> list[str]:
    if area not in AREAS:
        raise LookupError(f"there is no area {area!r}; with checks there are: {', '.join(BUILT)}")
    if area not in BUILT:
        raise LookupError(f"area {area} has no checks yet: {AREAS[area].reason}")
    return [f"conformance.suites.{module}" for module in AREAS[area].modules]


class PluginSubject(Subject):
    """One plugin object, or one of each kind, judged alone.

    Args:
        name: what reports call it.
        snapshotter, content: the objects.
        snapshotter_id: the id under which it would be registered.
        mounter: performs its mounts; without one, checks that look into file systems are skipped.
            ``refimpl.linux.mounter.KernelMounter()`` lets Linux do it (root).
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
