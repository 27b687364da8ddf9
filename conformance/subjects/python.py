"""``python:package.module:factory``: a plugin object made by calling ``factory()``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from conformance.author import PluginSubject
from conformance.subjects.base import Subject, SubjectError

_SNAPSHOTTER = ("prepare", "view", "commit", "mounts", "walk", "close")
_CONTENT = ("writer", "reader", "list_statuses", "abort")


def load(spec: str) -> Subject:
    """The subject that a factory makes.

    Raises:
        SubjectError: no such module or name, the factory fails, or what it makes is neither a subject nor a plugin.
    """
    module_name, _, factory_name = spec.removeprefix("python:").partition(":")
    if not module_name or not factory_name:
        raise SubjectError(f"{spec!r}: expected python:package.module:factory")
    # As with `python -m`: what lies in the current directory can be named.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        made = factory()
    # A stranger's module and factory may raise anything.
    except Exception as error:
        raise SubjectError(f"{spec}: {type(error).__name__}: {error}") from error
    if isinstance(made, Subject):
        made.name = spec
        return made
    if all(hasattr(made, name) for name in _SNAPSHOTTER):
        # Made for this run alone: nobody else closes it.
        return PluginSubject(spec, snapshotter=made, snapshotter_id=factory_name, close=made.close)
    if all(hasattr(made, name) for name in _CONTENT):
        return PluginSubject(spec, content=made)
    raise SubjectError(
        f"{spec}: {factory_name}() made a {type(made).__name__}, which is no snapshotter, content store or Subject"
    )
