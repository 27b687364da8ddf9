"""io.containerd.differ.v1.walking on a fake host: layers by walking trees that only exist in memory.

It keeps nothing. The work is ``refimpl.archive``'s; here it meets the host's mounts. Programs of the configuration's
``stream_processors`` are not run: a fake daemon starts no processes, so their media types are refused as unknown.
Clauses DIF-001 to DIF-066. Twin: refimpl.backends.real.differ.
"""

from __future__ import annotations

from refimpl.archive.walking import WalkingDiffer
from refimpl.backends.fake.host import FakeHost
from refimpl.kernel import InitContext, Registration, hookimpl

METADATA = "io.containerd.metadata.v1"


def init(ic: InitContext) -> WalkingDiffer:
    """A differ between the metadata store's content and the host's file systems."""
    host = ic.resource(FakeHost)
    return WalkingDiffer(
        ic.get(METADATA).content,
        host.mounter,
        host.fs.below,
        host.clock,
        user_namespace=host.features.user_namespace,
    )


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The walking differ of the fake world."""
    return [
        Registration(
            "io.containerd.differ.v1", "walking", init=init, requires=(METADATA,), platforms=True, backend="fake"
        )
    ]
