"""Assembly: from a wish (this root, these backends) to a kernel that is ready to boot.

The one way in which the daemon, ``refimpl plugins ls`` and the conformance suite come to the built-in plugins. It
imports no backend: modules are loaded by name and contribute plugins and resources through hooks. So a caller that
may see only the kernel writes ``with assembled(root=..., state=..., backends="fake") as plugins:``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refimpl.contract.times import Clock
from refimpl.kernel.backends import AUTO, FAKE, REAL, check_words
from refimpl.kernel.builtin import modules_of
from refimpl.kernel.config import Configuration
from refimpl.kernel.hooks import Hooks, trace_target
from refimpl.kernel.kernel import Kernel, policy_of
from refimpl.kernel.plugins import PluginSet
from refimpl.kernel.registration import Registration


def assemble(
    *,
    root: Path,
    state: Path,
    backends: str = AUTO,
    configuration: Configuration | None = None,
    clock: Clock | None = None,
    resources: Mapping[type[Any], object] | None = None,
    extra: Sequence[object] = (),
    registrations: Sequence[Registration] = (),
    entry_points: bool = True,
    strict: bool = True,
) -> Kernel:
    """A kernel with all built-in plugins and those of installed packages.

    Args:
        root, state: as for ``Kernel``.
        backends: ``real``, ``fake`` or ``auto``.
        configuration: None for containerd's defaults.
        clock: None for the system's.
        resources: objects that win over what modules offer, by class (a test gives its own ``FakeHost``).
        extra: further plugin modules or objects with hook implementations (tracing, faults, mutants).
        registrations: further plugins, registered last (proxy plugins; PLG-049).
        entry_points: whether to look for third parties' modules.
        strict: refuse unknown keys in plugins' sections instead of logging them.

    Raises:
        RegistrationError: a module or a plugin that does not fit, or a backend that no plugin has.
    """
    configuration = configuration or Configuration()
    worlds = policy_of(backends, configuration).worlds()
    hooks = built_in_hooks(extra, entry_points=entry_points, worlds=worlds)
    registry = hooks.registry()
    for registration in registrations:
        registry.add(registration)
    kernel = Kernel(
        registry,
        root=root,
        state=state,
        configuration=configuration,
        backends=backends,
        clock=clock,
        resources=resources,
        hooks=hooks,
        strict=strict,
    )
    check_words(registry, kernel.policy)
    return kernel


@contextmanager
def assembled(**wish: Any) -> Iterator[PluginSet]:
    """``assemble(**wish)``, booted; closed on leaving."""
    kernel = assemble(**wish)
    try:
        yield kernel.boot()
    finally:
        kernel.close()


def built_in_hooks(
    extra: Sequence[object] = (), *, entry_points: bool = True, worlds: Collection[str] = (REAL, FAKE)
) -> Hooks:
    """The hook caller with the built-in modules of these worlds, third parties' modules, and ``extra`` on top."""
    hooks = Hooks(trace_target())
    hooks.register_modules(modules_of(worlds))
    if entry_points:
        hooks.register_entry_points()
    for module in extra:
        hooks.register(module)
    return hooks
