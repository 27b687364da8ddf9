"""The hooks: every way in which a plugin module, ours or a stranger's, takes part.

A plugin module is any importable module (or object) with functions marked ``@hookimpl`` from ``refimpl.kernel``. The
built-in ones are listed in ``refimpl.kernel.builtin``; others are found through the entry-point group ``refimpl``::

    [project.entry-points.refimpl]
    my-snapshotter = "my_package.snapshotter"

An implementation names only the parameters that it wants. One that fits no hook here, or asks for a parameter that the
hook does not have, is refused when its module is registered. ``REFIMPL_TRACE_HOOKS=1`` prints every call.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from refimpl.kernel.plugins import Plugin
from refimpl.kernel.registration import Registration
from refimpl.kernel.resources import Resource

PROJECT = "refimpl"
"""The name under which pluggy knows us, and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """The hooks, in the order in which a start calls them."""

    @hookspec
    def refimpl_registrations(self) -> Sequence[Registration]:
        """Contribute plugins.

        Called once for each assembly, before anything is initialised. Every implementation's answer counts, in the
        order in which the modules were registered (built-in ones first). Importing the module and calling this hook
        must have no other effect: it is also called to print documentation.

        Returns:
            The module's registrations; most modules have one.
        """
        raise NotImplementedError

    @hookspec
    def refimpl_resources(self) -> Sequence[Resource]:
        """Contribute what plugins ask for by class with ``InitContext.resource``: the fake host, a key-value engine.

        Called once for each assembly, after ``refimpl_registrations``. Every implementation's answer counts. A
        resource is made when it is first asked for, once for each kernel, so that two fake daemons in one process
        share nothing.

        Returns:
            The module's resources.
        """
        raise NotImplementedError

    @hookspec
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """Decorate an instance at its boundary: trace it, make it fail on purpose, turn it into a mutant.

        Called for each plugin right after its ``init`` succeeded and before anybody else sees the instance. The
        answers chain: the next implementation gets what the one before it answered. The last registered module is
        called first, so it is the innermost.

        Args:
            registration: whose instance it is.
            instance: what ``init`` returned, or what an earlier implementation made of it.

        Returns:
            The object to use in its place, with the same protocol; None to leave it.
        """
        raise NotImplementedError

    @hookspec
    def refimpl_initialized(self, plugin: Plugin) -> None:
        """Observe that a plugin had its turn, whether it works or not.

        Called for each enabled plugin in the order of initialisation, after it was added to the set. Answers are
        ignored; an exception ends the start.

        Args:
            plugin: with its instance or its error, exports and platforms.
        """
        raise NotImplementedError
