"""io.containerd.differ.v1.walking: layers by walking trees of the machine's own file systems.

It keeps nothing; what it mounts is undone before it answers. The work is ``refimpl.archive``'s; here it meets mount(2),
trees that no path leads out of (``refimpl.linux.tree``), and the programs of ``[stream_processors]``.
Clauses DIF-001 to DIF-066. Twin: refimpl.backends.fake.differ.
"""

from __future__ import annotations

from pathlib import Path

from refimpl.archive.walking import WalkingDiffer
from refimpl.backends.real.differ_processors import Program
from refimpl.contract.mounts import Mounter
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.linux.tree import DirectoryTree

METADATA = "io.containerd.metadata.v1"

_UID_MAP = Path("/proc/self/uid_map")
_ALL = ["0", "0", "4294967295"]  # the map of who is in no user namespace: everybody is who they are


def init(ic: InitContext) -> WalkingDiffer:
    """A differ between the metadata store's content and the machine's file systems."""
    return WalkingDiffer(
        ic.get(METADATA).content,
        ic.resource(Mounter),  # type: ignore[type-abstract]  # a Protocol is a fine key
        DirectoryTree,
        ic.clock,
        user_namespace=in_user_namespace(),
        # The last that accepts a type wins, as with containerd's registrations.
        processors=[Program(id, entry) for id, entry in ic.stream_processors.items()],
    )


def in_user_namespace(uid_map: Path = _UID_MAP) -> bool:
    """Whether this process lives in a user namespace, where no device can be made."""
    try:
        return uid_map.read_text().split() != _ALL
    except OSError:
        return False  # a kernel without user namespaces


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The walking differ of this machine."""
    return [
        Registration(
            "io.containerd.differ.v1", "walking", init=init, requires=(METADATA,), platforms=True, backend="real"
        )
    ]
