"""Writing down the processes of a container with CRIU, through the OCI runtime (TSK-078, TSK-081)."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from refimpl.api.runc_v1_pb2 import CheckpointOptions
from refimpl.contract.errors import InvalidArgument
from refimpl.shim.oci import OCIError
from refimpl.shim.process import refuse

if TYPE_CHECKING:
    from refimpl.shim.container import Container

_SWITCHES = {
    "open_tcp": "--tcp-established",
    "external_unix_sockets": "--ext-unix-sk",
    "terminal": "--shell-job",
    "file_locks": "--file-locks",
}


def checkpoint(container: Container, path: str, type_url: str, value: bytes) -> None:
    """Write a checkpoint into a directory.

    Args:
        type_url, value: options; no type means none.

    Raises:
        InvalidArgument: options of another type.
        Unknown: the state does not allow it, or it failed: then the container is as it was.
    """
    options = _options(type_url, value)
    own = "" if options.work_path else os.path.join(container.bundle, "work", "criu-work")
    work = options.work_path or own
    arguments = ["--image-path", path, "--work-path", work]
    arguments += [word for name, word in _SWITCHES.items() if getattr(options, name)]
    arguments += [word for name in options.empty_namespaces for word in ("--empty-ns", name)]
    if options.cgroups_mode:
        arguments += ["--manage-cgroups-mode", options.cgroups_mode]
    if not options.exit:
        arguments.append("--leave-running")
    os.makedirs(work, mode=0o711, exist_ok=True)
    try:
        container.checkpoint(arguments)
    except OCIError as error:
        log = os.path.join(container.bundle, "criu-dump.log")
        with contextlib.suppress(OSError):
            shutil.copyfile(os.path.join(work, "dump.log"), log)
        raise refuse(f"{_first_line(str(error))} path= {log}") from error
    finally:
        if own:
            shutil.rmtree(own, ignore_errors=True)


def _options(type_url: str, value: bytes) -> CheckpointOptions:
    if type_url and type_url != CheckpointOptions.DESCRIPTOR.full_name:
        raise InvalidArgument(f"options of type {type_url} are none of a checkpoint")
    try:
        return CheckpointOptions.FromString(value)
    except DecodeError as error:
        raise InvalidArgument(f"options of a checkpoint: {error}") from error


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
