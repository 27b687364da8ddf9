"""The kernel: registrations, their order, their making, their hooks. The only room that knows pluggy.

A plugin module needs four words from here::

    from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
"""

import logging

from refimpl.kernel.assembly import assemble, assembled
from refimpl.kernel.config import ConfigError, Configuration, Duration
from refimpl.kernel.context import InitContext
from refimpl.kernel.hookspecs import hookimpl
from refimpl.kernel.kernel import Kernel, RequiredPluginError
from refimpl.kernel.plugins import Plugin, PluginSet
from refimpl.kernel.registration import Registration, RegistrationError, Registry, SkipPlugin
from refimpl.kernel.resources import Resource, Resources
from refimpl.kernel.service import GRPCService, TTRPCMethod, TTRPCRegistrar, TTRPCService

# A library says nothing unless its user wants to hear it; the daemon puts its own handler here.
logging.getLogger("refimpl").addHandler(logging.NullHandler())

__all__ = [
    "ConfigError",
    "Configuration",
    "Duration",
    "GRPCService",
    "InitContext",
    "Kernel",
    "Plugin",
    "PluginSet",
    "Registration",
    "RegistrationError",
    "Registry",
    "RequiredPluginError",
    "Resource",
    "Resources",
    "SkipPlugin",
    "TTRPCMethod",
    "TTRPCRegistrar",
    "TTRPCService",
    "assemble",
    "assembled",
    "hookimpl",
]
