"""Where the two runtimes differ, as data: names, prefixes of messages, and who tells what.

Clauses RT1-001 to RT1-030; TSK and SHM for the second.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from refimpl.api import linux_runc_pb2, runc_v1_pb2


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one runtime speaks.

    Attributes:
        uri: its plugin.
        first: whether it is the first runtime, whose shim serves one container.
        shim_failed, create_failed, delete_failed: what messages begin with.
        details: of a process in ``pids``.
        checkpoint_options: type of the options of a checkpoint.
    """

    uri: str
    first: bool
    shim_failed: str
    create_failed: str
    delete_failed: str
    details: type[Message]
    checkpoint_options: type[Message]

    def no_process(self, id: str) -> str:
        """What is said of an exec id that nobody has (TSK-066)."""
        return f"process {id} does not exist" if self.first else f"process does not exist {id}"


FIRST = Dialect(
    uri="io.containerd.runtime.v1.linux",
    first=True,
    shim_failed="",
    create_failed="",
    delete_failed="",
    details=linux_runc_pb2.ProcessDetails,
    checkpoint_options=linux_runc_pb2.CheckpointOptions,
)
"""The first runtime."""

SECOND = Dialect(
    uri="io.containerd.runtime.v2.task",
    first=False,
    shim_failed="failed to start shim: ",
    create_failed="failed to create shim task: ",
    delete_failed="failed to delete task: ",
    details=runc_v1_pb2.ProcessDetails,
    checkpoint_options=runc_v1_pb2.CheckpointOptions,
)
"""The second runtime, with runc's shim."""
