"""The hook caller: plugin modules go in, registrations, resources and wrapped instances come out.

The only module besides the hookspecs that knows pluggy. A module that does not fit is refused when it is registered.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, TextIO

import pluggy

from refimpl.kernel.hookspecs import PROJECT, HookSpecs
from refimpl.kernel.plugins import Plugin
from refimpl.kernel.registration import Registration, RegistrationError, Registry
from refimpl.kernel.resources import Resource

TRACE_VARIABLE = "REFIMPL_TRACE_HOOKS"
"""Set to anything but ``0`` it prints every hook call to standard error."""


class Hooks:
    """The plugin modules of one assembly.

    Args:
        trace: where to print every call with its arguments and result; None for nowhere.
    """

    def __init__(self, trace: TextIO | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        if trace is not None:
            self._manager.add_hookcall_monitoring(*_tracer(trace))

    def register(self, module: object, name: str | None = None) -> None:
        """Take in a module (or any object) with hook implementations.

        Raises:
            RegistrationError: it is there already, or an implementation fits no hook.
        """
        try:
            self._manager.register(module, name)
            self._manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            raise RegistrationError(f"plugin module {name or _name(module)}: {error}") from error

    def register_modules(self, names: Iterable[str]) -> None:
        """Import modules by name, in order, and take them in."""
        for name in names:
            self.register(importlib.import_module(name), name)

    def register_entry_points(self) -> None:
        """Take in the modules that installed packages announce in the entry-point group ``refimpl``.

        Raises:
            RegistrationError: one of them cannot be imported or does not fit; the message names package and entry.
        """
        for entry in importlib.metadata.entry_points(group=PROJECT):
            package = entry.dist.name if entry.dist is not None else "?"
            try:
                module = entry.load()
            except Exception as error:  # a stranger's code: whatever it raises is a plugin that cannot be loaded
                raise RegistrationError(f"entry point {entry.name} = {entry.value} of {package}: {error}") from error
            self.register(module, f"{package}:{entry.name}")

    def registry(self) -> Registry:
        """All registrations, in the order of the modules.

        Raises:
            RegistrationError: one of them can never work; the message names its module.
        """
        registry = Registry()
        for name, answer in self._each("refimpl_registrations"):
            for registration in _items(name, answer, Registration):
                try:
                    registry.add(registration)
                except RegistrationError as error:
                    raise RegistrationError(f"{error} (module {name})") from error
        return registry

    def resources(self) -> list[Resource]:
        """All resources on offer, in the order of the modules."""
        return [item for name, answer in self._each("refimpl_resources") for item in _items(name, answer, Resource)]

    def wrap(self, registration: Registration, instance: object) -> object:
        """The instance as its users get it; each implementation of ``refimpl_wrap`` gets what the one before made."""
        for call in self._separately("refimpl_wrap"):
            answers = call(registration=registration, instance=instance)
            instance = answers[0] if answers else instance
        return instance

    def initialized(self, plugin: Plugin) -> None:
        """Tell all observers."""
        self._manager.hook.refimpl_initialized(plugin=plugin)

    def _each(self, hook: str) -> Iterator[tuple[str, object]]:
        """Each module's answer by itself, so that a bad one can be named; first registered first."""
        caller = getattr(self._manager.hook, hook)
        implementations = {implementation.plugin_name: implementation for implementation in caller.get_hookimpls()}
        for name, _ in self._manager.list_name_plugin():
            if name in implementations:
                for answer in self._alone(hook, implementations[name].plugin)():
                    yield name, answer

    def _separately(self, hook: str) -> list[Callable[..., list[Any]]]:
        """One caller for each implementation, in the order in which pluggy would call them."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        return [self._alone(hook, implementation.plugin) for implementation in reversed(implementations)]

    def _alone(self, hook: str, plugin: object) -> Callable[..., list[Any]]:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        others = [implementation.plugin for implementation in implementations if implementation.plugin is not plugin]
        return self._manager.subset_hook_caller(hook, others)


def trace_target() -> TextIO | None:
    """Where hook calls are printed, by the environment: standard error or nowhere."""
    return sys.stderr if os.environ.get(TRACE_VARIABLE, "0") not in {"", "0"} else None


def _tracer(out: TextIO) -> tuple[Callable[..., None], Callable[..., None]]:
    def before(name: str, implementations: Sequence[Any], arguments: Any) -> None:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        modules = ", ".join(implementation.plugin_name for implementation in reversed(implementations))
        print(f"{name}({shown}) -> [{modules}]", file=out)

    def after(result: Any, name: str, _implementations: Sequence[Any], _arguments: Any) -> None:
        print(f"{name} answered {result.get_result() if result.exception is None else result.exception!r}", file=out)

    return before, after


def _items(module: str, answer: object, cls: type[Any]) -> Sequence[Any]:
    wrong = answer if not isinstance(answer, list | tuple) else [item for item in answer if not isinstance(item, cls)]
    if wrong or not isinstance(answer, list | tuple):
        raise RegistrationError(f"plugin module {module}: expected a list of {cls.__name__}, got {wrong!r}")
    return answer


def _name(module: object) -> str:
    return module.__name__ if isinstance(module, ModuleType) else repr(module)
