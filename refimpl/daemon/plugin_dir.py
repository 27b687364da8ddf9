"""Plugins from files: every ``*.py`` in the plugin directory is a plugin module (DMN-040).

containerd 1.6 loads Go's shared objects from there. We cannot, and do not pretend: a file that containerd would load
and we cannot is an error, other names are ignored.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from refimpl.contract.types import Platform


class PluginFileError(Exception):
    """A file in the plugin directory that cannot be loaded."""


def load(directory: Path, machine: Platform) -> list[ModuleType]:
    """The plugin modules of a directory, by name; none if there is no such directory.

    Raises:
        PluginFileError: a file that is meant to be loaded and cannot be.
    """
    if not directory.is_dir():
        return []
    objects = sorted(directory.glob(f"*-{machine.os}-{machine.architecture}.so"))
    if objects:
        raise PluginFileError(f"load plugin {objects[0]}: Go's shared objects cannot be loaded, only *.py")
    return [_module(path) for path in sorted(directory.glob("*.py"))]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"refimpl_plugin_{path.stem}", path)
    assert spec is not None, "a name ending in .py always has a loader"
    assert spec.loader is not None, "as above"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's code: whatever it raises means that it cannot be loaded
        raise PluginFileError(f"load plugin {path}: {error}") from error
    return module
