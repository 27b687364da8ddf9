"""The world in which the good values of ``odd_values`` are good: made before the odd requests, looked at after them.

All of it is made by requests to both daemons, and the answers to these are compared as well.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from refimpl.api import containers_v1_pb2 as containers
from refimpl.api import content_v1_pb2 as content
from refimpl.api import images_v1_pb2 as images
from refimpl.api import leases_v1_pb2 as leases
from refimpl.api import namespaces_v1_pb2 as namespaces
from refimpl.api import snapshots_v1_pb2 as snapshots
from refimpl.api import tasks_v1_pb2 as tasks
from refimpl.api import types_pb2
from tests.acceptance.answers import Both
from tests.acceptance.odd_requests import Request, call
from tests.acceptance.odd_texts import SEEDED, THERE, digest
from tests.acceptance.odd_values import ROOT, SPEC


def write(ref: str, data: bytes, *, commit: bool, ns: str = "{ns}", labels: Mapping[str, str] | None = None) -> Request:
    """An upload in one message."""
    action = content.COMMIT if commit else content.WRITE
    return call("Content/Write", content.WriteContentRequest(action=action, ref=ref, data=data, labels=labels), ns=ns)


KEEP = {"containerd.io/gc.root": "yes"}
"""Labels of what a collection may not take that somebody asks for."""


def _prepared(snapshotter: str, key: str, parent: str = "") -> Request:
    wish = snapshots.PrepareSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent, labels=KEEP)
    return call("Snapshots/Prepare", wish)


def seeds() -> list[Request]:
    """What makes the world in which the good values are good, in the namespace at hand and in another."""
    return [
        write("seed", SEEDED, commit=True, labels={**KEEP, "a": "1", "a.b": "c"}),
        write("seed", b"elsewhere", commit=True, ns="{ns}-other", labels=KEEP),
        write("ingest", b"abc", commit=False),
        call(
            "Images/Create",
            images.CreateImageRequest(
                image=images.Image(
                    name="img",
                    labels={"a": "1", "a.b": "c"},
                    target=types_pb2.Descriptor(
                        media_type="text/plain", digest=THERE, size=5, annotations={"a": "1", "a.b": "2"}
                    ),
                )
            ),
        ),
        call("Containers/Create", containers.CreateContainerRequest(container=container("ctr"))),
        call("Leases/Create", leases.CreateRequest(id="lease", labels={"a": "1", "a.b": "c"})),
        *(
            request
            for name in ("overlayfs", "native")
            for request in (
                _prepared(name, "making"),
                call(
                    "Snapshots/Commit",
                    snapshots.CommitSnapshotRequest(
                        snapshotter=name, key="making", name="base", labels={**KEEP, "a": "1", "a.b": "c"}
                    ),
                ),
                _prepared(name, "active", "base"),
                call(
                    "Snapshots/View",
                    snapshots.ViewSnapshotRequest(snapshotter=name, key="view", parent="base", labels=KEEP),
                ),
            )
        ),
    ]


def container(id: str) -> containers.Container:
    """A record that nothing is wrong with."""
    made = containers.Container(
        id=id, image="img", runtime=containers.Container.Runtime(name="io.containerd.runc.v2"), labels={"a": "1"}
    )
    made.spec.type_url = SPEC
    made.spec.value = b"{}"
    made.extensions["a"].type_url = "x"
    return made


VICTIMS: Mapping[str, Sequence[Request]] = {
    "Content/Delete": [write("seed", b"victim", commit=True, labels=KEEP)],
    "Content/Abort": [write("victim", b"abc", commit=False)],
    "Containers/Delete": [call("Containers/Create", containers.CreateContainerRequest(container=container("victim")))],
    "Images/Delete": [
        call(
            "Images/Create",
            images.CreateImageRequest(
                image=images.Image(
                    name="victim", target=types_pb2.Descriptor(media_type="x", digest=digest(b"x"), size=1)
                )
            ),
        )
    ],
    "Leases/Delete": [call("Leases/Create", leases.CreateRequest(id="victim"))],
    "Namespaces/Delete": [
        call(
            "Namespaces/Create",
            namespaces.CreateNamespaceRequest(namespace=namespaces.Namespace(name="{ns}-victim", labels={"a": "1"})),
        )
    ],
    "Snapshots/Commit": [_prepared("overlayfs", "victim", "base")],
    "Snapshots/Remove": [_prepared("overlayfs", "victim", "base")],
}
"""What a method that takes things away needs before each of its requests; it may still be there."""


def after(request: Request) -> list[Request]:
    """What follows a method's success: it is undone, so that the next request finds what this one found, or ends."""
    message: Any = request.messages[0]
    if request.method == "Tasks/Create":
        return [call("Tasks/Delete", tasks.DeleteTaskRequest(container_id=message.container_id))]
    if request.method == "Tasks/Exec":
        gone = tasks.DeleteProcessRequest(container_id=message.container_id, exec_id=message.exec_id)
        return [call("Tasks/DeleteProcess", gone)]
    if request.method == "Tasks/Kill" and message.signal == signal.SIGKILL:
        # Dead it is only some time later.
        ended = tasks.WaitRequest(container_id=message.container_id, exec_id=message.exec_id)
        return [call("Tasks/Wait", ended, timeout=5.0)]
    return []


def looks(ns: str = "{ns}") -> list[Request]:
    """Everything that can be listed."""
    return [
        call("Namespaces/List", namespaces.ListNamespacesRequest(), ns=None),
        call("Content/List", content.ListContentRequest(), ns=ns),
        call("Content/ListStatuses", content.ListStatusesRequest(), ns=ns),
        call("Images/List", images.ListImagesRequest(), ns=ns),
        call("Containers/List", containers.ListContainersRequest(), ns=ns),
        call("Leases/List", leases.ListRequest(), ns=ns),
        call("Leases/ListResources", leases.ListResourcesRequest(id="lease"), ns=ns),
        call("Snapshots/List", snapshots.ListSnapshotsRequest(snapshotter="overlayfs"), ns=ns),
        call("Snapshots/List", snapshots.ListSnapshotsRequest(snapshotter="native"), ns=ns),
    ]


ENDING = {"Tasks/Create", "Tasks/Start", "Tasks/Delete", "Tasks/Kill", "Tasks/Pause"}
"""Methods whose requests may leave no task as it was."""

_PATIENCE, _PAUSE = 30.0, 0.03  # seconds: a process that was killed is not gone at once

LASTING, SHORT = ("sleep", "1000"), ("true",)


def process(*arguments: str) -> dict[str, object]:
    """An OCI process."""
    return {"args": arguments, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


def _bundle(id: str, *arguments: str) -> bytes:
    made = {
        "ociVersion": "1.0.2",
        "process": process(*arguments),
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            # Two tasks in one cgroup would kill each other.
            "cgroupsPath": f"/{{ns}}/{id}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
        },
    }
    return json.dumps(made).encode()


def task_seeds() -> list[Request]:
    """A task that runs, one that is only made, one that has ended; and a container without a task."""
    made = [call("Containers/Create", containers.CreateContainerRequest(container=container("ctr")))]
    for id, arguments in (("running", LASTING), ("made", LASTING), ("stopped", SHORT)):
        record = container(id)
        record.spec.value = _bundle(id, *arguments)
        made += [
            call("Containers/Create", containers.CreateContainerRequest(container=record)),
            call("Tasks/Create", tasks.CreateTaskRequest(container_id=id, rootfs=ROOT)),
        ]
        if id != "made":
            made.append(call("Tasks/Start", tasks.StartRequest(container_id=id)))
    made.append(call("Tasks/Wait", tasks.WaitRequest(container_id="stopped")))
    spec = json.dumps(process(*LASTING)).encode()
    added = tasks.ExecProcessRequest(container_id="running", exec_id="exec")
    added.spec.type_url, added.spec.value = SPEC.replace("Spec", "Process"), spec
    victim = container("victim")
    victim.spec.value = _bundle("victim", *LASTING)
    return [
        *made,
        call("Tasks/Exec", added),
        call("Containers/Create", containers.CreateContainerRequest(container=victim)),
    ]


def task_ends() -> list[Request]:
    """The end of all tasks."""
    made = []
    for id in ("running", "made", "stopped", "ctr", "victim"):
        made += [
            call("Tasks/Resume", tasks.ResumeTaskRequest(container_id=id)),
            call("Tasks/Kill", tasks.KillRequest(container_id=id, signal=9)),
            call("Tasks/Wait", tasks.WaitRequest(container_id=id), timeout=5),
            call("Tasks/Delete", tasks.DeleteTaskRequest(container_id=id)),
            call("Containers/Delete", containers.DeleteContainerRequest(id=id)),
        ]
    return made


def settled(both: Both, ns: str) -> None:
    """Wait until both daemons say the same of all tasks; if they never do, that is a difference."""
    look = call("Tasks/List", tasks.ListTasksRequest())
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        left, right = both.hear(look, ns)
        if left == right:
            return
        time.sleep(_PAUSE)
    both.ask(look, ns)
