"""``refimpl version``: whose code this is, and whose daemon answers."""

from __future__ import annotations

import platform

from refimpl import __version__
from refimpl.cli.failures import one_line_errors
from refimpl.cli.options import Address
from refimpl.contract.context import CallContext


def version(address: Address = "") -> None:
    """Print the version of this package, and with --address that of a daemon."""
    print("Client:")
    print(f"  Version:  {__version__}")
    print("  Revision: ")
    print(f"  Python version: {platform.python_version()}")
    if not address:
        return
    # gRPC costs a tenth of a second, and the answer above needs none.
    from refimpl.client import Client  # noqa: PLC0415

    with one_line_errors(), Client(address) as client:
        build = client.version.version(CallContext())
        server = client.introspection.server(CallContext())
    print("\nServer:")
    print(f"  Version:  {build.version}")
    print(f"  Revision: {build.revision}")
    print(f"  UUID: {server.uuid}")
