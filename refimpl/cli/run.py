"""``refimpl run``: a container from an image, in the foreground or in the background, on any daemon."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.foreground import foreground
from refimpl.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    DEFAULT_SNAPSHOTTER,
    Cwd,
    Env,
    InNamespace,
    Interactive,
    Snapshotter,
    Socket,
    Terminal,
    User,
)
from refimpl.client import Client
from refimpl.client.running import create, create_task, kill, remove
from refimpl.client.spec import Wishes, parse_mount
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.runtimes import IO

app = typer.Typer(add_completion=False)


@app.command("run", context_settings={"allow_interspersed_args": False})
def run(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name of an image that the daemon has.")],
    id: Annotated[str, typer.Argument(metavar="ID", help="Name for the container.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Instead of the image's own.")
    ] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Remove the container afterwards, whatever happens.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it running, without streams; print ID.")
    ] = False,
    terminal: Terminal = False,
    interactive: Interactive = False,
    env: Env = None,
    cwd: Cwd = "",
    user: User = "",
    mount: Annotated[
        list[str] | None, typer.Option(help="type=bind,src=/here,dst=/there,options=rbind:ro, repeatable.")
    ] = None,
    memory_limit: Annotated[int, typer.Option(min=0, help="Bytes of memory at most.")] = 0,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs' worth of time at most, such as 0.5.")] = 0.0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Mount the root file system read-only.")] = False,
    net_host: Annotated[
        bool, typer.Option("--net-host", help="Use the host's network; without, there is none.")
    ] = False,
    privileged: Annotated[
        bool, typer.Option("--privileged", help="Give it your capabilities and all devices, and mask nothing.")
    ] = False,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the container, repeatable.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime.")] = "io.containerd.runc.v2",
    snapshotter: Snapshotter = DEFAULT_SNAPSHOTTER,
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
) -> None:
    """Run a container from an image that was pulled or imported.

    Options come before IMAGE. The command gets the image's entry point, environment and working directory. Signals are
    passed on; a program that ignores three interrupts is killed.

    \b
    refimpl run --rm alpine hello echo hi
    refimpl run --rm -t alpine shell sh
    refimpl run -d --memory-limit 100000000 nginx web
    echo words | refimpl run --rm -i alpine count wc -w

    Exit status: the program's own; 1 when it could not be run, 2 usage.
    """
    if detach and (rm or terminal or interactive):
        raise fail("-d goes neither with --rm nor with -t or -i", 2)
    ctx = CallContext(namespace=namespace)
    with one_line_errors(), Client(address) as client:
        wishes = Wishes(
            args=command or (),
            env=env or (),
            cwd=cwd,
            mounts=[parse_mount(text) for text in mount or ()],
            memory=memory_limit,
            cpus=cpus,
            read_only=read_only,
            terminal=terminal,
            host_network=net_host,
            privileged=privileged,
            labels=dict(_label(text) for text in label or ()),
        )

        def made() -> Container:
            return create(ctx, client, id, image, wishes, user=user, snapshotter=snapshotter, runtime=runtime)

        if detach:
            _detached(ctx, client, made())
            print(id)
            return
        with foreground(ctx, client.tasks, id, terminal=terminal, interactive=interactive) as here:
            container = made()
            try:
                create_task(ctx, client, container, here.streams.io)
                status = here.run()
                client.tasks.delete(ctx, id)
                here.streams.finish()
            except KeyboardInterrupt:
                with suppress(ContainerdError):
                    kill(ctx, client, id)
                    client.tasks.delete(ctx, id)
                raise
            finally:
                # A container that has never run is nothing that anybody wants to look at.
                if rm or not here.started:
                    _remove(ctx, client, id)
    raise typer.Exit(status)


def _detached(ctx: CallContext, client: Client, container: Container) -> None:
    try:
        create_task(ctx, client, container, IO())
        client.tasks.start(ctx, container.id)
    except BaseException:
        _remove(ctx, client, container.id)
        raise


def _remove(ctx: CallContext, client: Client, id: str) -> None:
    """Remove all of it; what went wrong before is what the user has to see."""
    with suppress(ContainerdError):
        remove(ctx, client, id, force=True)


def _label(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
