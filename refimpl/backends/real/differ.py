"""io.containerd.differ.v1.walking: layers by walking trees of the machine's own file systems.

It keeps nothing; what it mounts is undone before it answers. The work is ``refimpl.archive``'s; here it meets mount(2),
trees that no path leads out of (``refimpl.linux.tree``), and the programs of ``[stream_processors]``.
Clauses DIF-001 to DIF-066. Twin: refimpl.backends.fake.differ.
"""

from __future__ import annotations

from refimpl.archive.walking import WalkingDiffer
from refimpl.backends.real.differ_processors import Program
from refimpl.contract.mounts import Mounter
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.linux.tree import DirectoryTree
from refimpl.linux.userns import in_user_namespace

METADATA = "io.containerd.metadata.v1"


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


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The walking differ of this machine."""
    return [
        Registration(
            "io.containerd.differ.v1", "walking", init=init, requires=(METADATA,), platforms=True, backend="real"
        )
    ]
