"""The client: the contract's protocols over gRPC, against any daemon or proxy plugin.

``Client(address)`` reaches a daemon; ``refimpl.client.proxy`` reaches a proxy plugin alone. ``refimpl.client.archive``,
``unpack``, ``export``, ``pull`` and ``running`` build on the protocols only, so they work on any implementation,
in-process ones too.
"""

from refimpl.client.client import Client

__all__ = ["Client"]
