"""Making a container: its root file system, its streams, and its init, which waits to be started (TSK-004, TSK-083)."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from refimpl.contract.errors import Unknown
from refimpl.shim.container import Container
from refimpl.shim.events import Teller
from refimpl.shim.oci import OCIError, OCIRuntime
from refimpl.shim.options import unpack_options
from refimpl.shim.process import Process
from refimpl.shim.rootfs import mount_rootfs, unmount_rootfs
from refimpl.shim.stdio import Host, ProcessIO, Stdio

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext
    from refimpl.shim.children import Children
    from refimpl.shim.loop import Loop
    from refimpl.shim.options import Options
    from refimpl.shim.publisher import Publisher


class Maker:
    """Makes the containers of one shim."""

    def __init__(self, loop: Loop, children: Children, publisher: Publisher, namespace: str) -> None:
        self._loop, self._children, self._publisher, self._namespace = loop, children, publisher, namespace

    def create(self, ctx: CallContext, request: Any) -> Container:
        """Make the container of a ``CreateTaskRequest``; its creation has been told when this returns.

        Raises:
            InvalidArgument: options that are none of an OCI runtime.
            Unknown: a mount, a stream or the OCI runtime failed; nothing is left of it.
            DeadlineExceeded: nobody came to read its output.
        """
        options = unpack_options(request.options.type_url, request.options.value)
        options.write(request.bundle)
        runtime = OCIRuntime(
            self._children,
            request.bundle,
            self._namespace,
            binary=options.text("binary_name"),
            root=options.text("root"),
            systemd_cgroup=options.flag("systemd_cgroup"),
        )
        host = Host(self._loop, self._children, self._namespace, options.owner)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        private = _has_private_pids(request.bundle)
        teller = Teller(self._publisher, request.id)
        container = Container(host, runtime, Process(request.id, stdio), request.bundle, teller, private=private)
        rootfs = os.path.join(request.bundle, "rootfs")
        mount_rootfs(self._children, request.rootfs, rootfs)
        try:
            _Beginning(ctx, host, container, options).begin(request)
        except BaseException:
            unmount_rootfs(self._children, rootfs)
            raise
        teller.created(request, container.init.pid)
        container.init.release()
        return container


class _Beginning:
    """The beginning of one init."""

    def __init__(self, ctx: CallContext, host: Host, container: Container, options: Options) -> None:
        self._ctx, self._host, self._container, self._options = ctx, host, container, options
        self._pid_file = os.path.join(container.bundle, "init.pid")
        self._io = ProcessIO(ctx, host, container.init.stdio, container.id)

    def begin(self, request: Any) -> None:
        image = request.checkpoint or self._options.text("criu_image_path")
        container = self._container
        container.init.io = self._io
        # Its end, should it come, is told after its creation.
        container.init.hold()
        try:
            if image:
                container.restore_with(lambda ctx: self._restore(ctx, image, request.parent_checkpoint))
            else:
                self._run(self._ctx, "create", [])
        except OCIError as error:
            self._io.abandon()
            raise error.as_unknown("create") from error
        except BaseException:
            self._io.abandon()
            raise

    def _run(self, ctx: CallContext, command: str, more: list[str]) -> None:
        """Run the command that makes init, and take it on as a child.

        Raises:
            OCIError: the runtime failed.
            Unknown: its terminal did not come; then the container is gone as well.
            Canceled, DeadlineExceeded: the caller gave up; the same.
        """
        options, container = self._options, self._container
        arguments = ["--bundle", container.bundle, "--pid-file", self._pid_file, *more]
        if self._io.console is not None:
            arguments += ["--console-socket", self._io.console.path]
        if options.flag("no_pivot_root"):
            arguments.append("--no-pivot")
        if command == "create" and options.flag("no_new_keyring"):
            arguments.append("--no-new-keyring")
        with self._host.children.expecting():
            try:
                container.runtime.run_with(ctx, self._io.given, command, *arguments, container.id)
                with open(self._pid_file, encoding="ascii") as file:
                    container.attach(int(file.read()))
                self._io.begin()
            except OCIError:
                raise  # what it could not make, it has taken back itself
            except BaseException:
                with contextlib.suppress(OCIError):
                    container.runtime.run("delete", "--force", container.id)
                raise

    def _restore(self, ctx: CallContext, image: str, parent: str) -> None:
        work = self._options.text("criu_work_path")
        own = work or os.path.join(self._container.bundle, "work", "criu-work")
        os.makedirs(own, mode=0o711, exist_ok=True)
        more = ["--image-path", image, "--work-path", own, "--detach", "--no-subreaper"]
        if parent:
            more += ["--parent-path", parent]
        try:
            self._run(ctx, "restore", more)
        except OCIError as error:
            raise error.as_unknown("restore") from error
        finally:
            if not work:
                import shutil  # noqa: PLC0415  # brings along three compressors, for the few who restore

                shutil.rmtree(own, ignore_errors=True)


def _has_private_pids(bundle: str) -> bool:
    """Whether a container is to have a pid namespace of its own (TSK-063).

    Raises:
        Unknown: its configuration cannot be read.
    """
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            namespaces = (json.load(file).get("linux") or {}).get("namespaces") or []
        return any(each.get("type") == "pid" and not each.get("path") for each in namespaces)
    except (OSError, ValueError, AttributeError) as error:
        raise Unknown(f"config.json: {error}", bare=False) from error
