"""``refimpl exec``: one more process in a running container, on any daemon."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Annotated

import typer

from refimpl.api.typeurl import OCI_PROCESS
from refimpl.cli.failures import one_line_errors
from refimpl.cli.foreground import foreground
from refimpl.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    Cwd,
    Env,
    InNamespace,
    Interactive,
    Socket,
    Terminal,
    User,
)
from refimpl.client import Client, users
from refimpl.client.running import content_of, image_of
from refimpl.client.spec import Wishes, process_of
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument
from refimpl.contract.types import TypedAny

_KILL = 9

app = typer.Typer(add_completion=False)


@app.command("exec", context_settings={"allow_interspersed_args": False})
def exec_(
    id: Annotated[str, typer.Argument(metavar="ID", help="Name of the container.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run in it.")],
    terminal: Terminal = False,
    interactive: Interactive = False,
    env: Env = None,
    cwd: Cwd = "",
    user: User = "",
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
) -> None:
    """Run a command in a running container.

    Options come before ID. The command has the container's environment, working directory and user, unless told
    otherwise.

    \b
    refimpl exec web ls /
    refimpl exec -t web sh
    refimpl exec --user 1000:1000 --env DEBUG=1 web env

    Exit status: the command's own; 1 when it could not be run, 2 usage.
    """
    ctx = CallContext(namespace=namespace)
    exec_id = f"exec-{uuid.uuid4().hex[:16]}"
    with one_line_errors(), Client(address) as client:
        container = client.containers.get(ctx, id)
        wishes = Wishes(env=env or (), cwd=cwd, terminal=terminal)
        who = _user(ctx, client, container, user) if user else None
        process = process_of(_spec(container), command, who, wishes)
        with foreground(ctx, client.tasks, id, exec_id, terminal=terminal, interactive=interactive) as here:
            packed = TypedAny(OCI_PROCESS, json.dumps(process).encode())
            client.tasks.exec(ctx, id, exec_id, packed, here.streams.io)
            try:
                status = here.run()
            except BaseException:
                with suppress(ContainerdError):
                    client.tasks.kill(ctx, id, exec_id, signal=_KILL)
                    client.tasks.wait(ctx, id, exec_id)
                with suppress(ContainerdError):
                    client.tasks.delete_process(ctx, id, exec_id)
                raise
            client.tasks.delete_process(ctx, id, exec_id)
            here.streams.finish()
    raise typer.Exit(status)


def _spec(container: Container) -> dict[str, object]:
    try:
        found = json.loads(container.spec.value if container.spec is not None else b"")
    except ValueError as error:
        raise InvalidArgument(f"the spec of container {container.id} is not JSON") from error
    return found if isinstance(found, dict) else {}


def _user(ctx: CallContext, client: Client, container: Container, text: str) -> users.User:
    name, _, group = text.partition(":")
    if name.isdecimal() and group.isdecimal():
        # No image is needed to understand numbers.
        return users.find(ctx, client.content, [], text)
    image = image_of(ctx, client, container.image)
    return users.find(ctx, client.content, content_of(ctx, client, image.target).layers, text)
