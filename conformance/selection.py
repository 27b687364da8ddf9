"""Selection: which checks are for which subject, and why one of them cannot run."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

import pytest

from conformance import needs
from conformance.catalogue import load
from conformance.subjects.base import Subject

_ANY_SNAPSHOTTER = "io.containerd.snapshotter.v1."
_SHIM = "containerd-shim-"

_FIXTURE_WORDS = {
    **{name: name for name in ("content", "images", "containers", "namespaces", "leases", "events", "diff")},
    "introspection": "introspection",
    "tasks": "tasks",
    "snapshotter": "snapshotter",
    "snapshotters": "snapshotter",
    "mounted": "mount",
    "collect": "gc",
    "wire": "wire",
    "own": "config",
}
"""A fixture that a check asks for is a need of its own: nobody has to write it twice."""

_IMPLIED = {"root"}
"""Words that clauses use for "mounts are performed"; what a check really needs of it, its fixtures say."""


def subject_name(item: pytest.Item) -> str | None:
    """The name of the subject that an item judges; None for an ordinary test."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    value = params.get("subject")
    return value if isinstance(value, str) else None


def snapshotters(ids: Iterable[str], chosen: Sequence[str]) -> list[str]:
    """The snapshotters that a check of these clauses is run on.

    A clause about snapshotters in general is judged on each; one that names some, on those; one that is about the
    layers above them only, on the first.
    """
    named = {
        plugin.removeprefix(_ANY_SNAPSHOTTER)
        for id in ids
        for plugin in load()[id].plugins
        if plugin.startswith(_ANY_SNAPSHOTTER)
    }
    if not named:
        return list(chosen[:1])
    return [id for id in chosen if any(fnmatch.fnmatch(id, pattern) for pattern in named)]


def binds(plugins: Iterable[str], types: frozenset[str]) -> bool:
    """Whether a clause that binds ``plugins`` says something about plugins of these types."""
    return any(
        plugin == "*" or plugin.rpartition(".")[0] in types or any(fnmatch.fnmatchcase(one, plugin) for one in types)
        for plugin in plugins
    )


def wanted(ids: Sequence[str], subject: Subject, config: pytest.Config) -> bool:
    """Whether the options and the subject's kind let a check through."""
    clauses = [load()[id] for id in ids]
    if subject.only_clauses is not None and not subject.only_clauses & set(ids):
        return False
    if subject.only_areas is not None and not any(clause.area in subject.only_areas for clause in clauses):
        return False
    areas, named = config.getoption("--area"), config.getoption("--clause")
    plugins, profile = config.getoption("--plugin-uri"), config.getoption("--profile")
    if areas and not any(clause.area in areas for clause in clauses):
        return False
    if named and not any(clause.id in named for clause in clauses):
        return False
    if plugins and not any(fnmatch.fnmatch(uri, pattern) for c in clauses for pattern in c.plugins for uri in plugins):
        return False
    if profile and not any(_fits(clause.since, profile) for clause in clauses):
        return False
    if subject.types is None:
        # A whole daemon; what binds shim binaries alone is judged on those.
        return any(not plugin.startswith(_SHIM) for clause in clauses for plugin in clause.plugins)
    return any(binds(clause.plugins, subject.types) for clause in clauses)


def _fits(since: str, profile: str) -> bool:
    return [int(n) for n in since.replace("x", "0").split(".")] <= [
        int(n) for n in profile.replace("x", "0").split(".")
    ]


def words(mark: pytest.Mark, fixtures: Iterable[str]) -> frozenset[str]:
    """All that a check needs: what its mark says, and what the fixtures need that it asks for."""
    stated = set(mark.kwargs["needs"]) - _IMPLIED
    return frozenset(stated | {_FIXTURE_WORDS[name] for name in fixtures if name in _FIXTURE_WORDS})


def missing(item: pytest.Item, mark: pytest.Mark, subject: Subject) -> str:
    """Why the check cannot run on this subject; empty if it can."""
    return needs.missing(words(mark, getattr(item, "fixturenames", ())), subject.offers)
