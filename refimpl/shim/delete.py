"""``delete``: end what is left of a container whose shim is gone, and say how it ended (SHM-040 to SHM-044)."""

from __future__ import annotations

import os
import time

from refimpl.shim.children import Children
from refimpl.shim.flags import Flags
from refimpl.shim.main import ShimError
from refimpl.shim.oci import OCIError, OCIRuntime
from refimpl.shim.options import read_options
from refimpl.shim.rootfs import unmount_rootfs
from refimpl.shim.wire import delete_response

KILLED = 128 + 9
"""The status of a container that nobody saw end."""


def delete(flags: Flags) -> bytes:
    """Run the command; answers with a marshalled ``DeleteResponse``.

    Everything that can be cleaned is cleaned, whatever fails before; a second time finds nothing and is as good.

    Raises:
        ShimError: the options of the container cannot be read: then nobody knows which runtime has it.
        Unknown: its root file system is in use.
    """
    bundle = os.path.abspath(flags.bundle or ".")
    id = flags.id or os.path.basename(bundle)
    try:
        options = read_options(bundle)
    except (OSError, ValueError) as error:
        raise ShimError(f"options of {id}: {error}") from error
    children = Children(looped=False)
    runtime = OCIRuntime(
        children,
        bundle,
        flags.namespace,
        binary=options.text("binary_name"),
        root=options.text("root"),
        systemd_cgroup=options.flag("systemd_cgroup"),
    )
    try:
        runtime.run("delete", "--force", id)
    except OCIError as error:
        os.write(2, f"failed to remove container {id}: {error.logged or error}\n".encode())
    unmount_rootfs(children, os.path.join(bundle, "rootfs"))
    _remove_socket(bundle)
    return delete_response(_pid(bundle), KILLED, time.time_ns())


def _remove_socket(bundle: str) -> None:
    try:
        with open(os.path.join(bundle, "address"), encoding="utf-8") as file:
            path = file.read().strip().removeprefix("unix://")
    except FileNotFoundError:
        return
    if os.path.exists(path):
        # A shim that ends in good order has removed it by now: most deletes need not know how that is done.
        from refimpl.shim.address import remove_stale  # noqa: PLC0415

        remove_stale(path)


def _pid(bundle: str) -> int:
    try:
        with open(os.path.join(bundle, "init.pid"), encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return 0
