"""``refimpl pull``: an image from a registry into any daemon, and unpacked."""

from __future__ import annotations

import getpass
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_NAMESPACE,
    DEFAULT_SNAPSHOTTER,
    InNamespace,
    Json,
    Snapshotter,
    Socket,
)
from refimpl.client import Client, platforms
from refimpl.client.fetch import Progress, Report, ref_of
from refimpl.client.pull import pull as pull_image
from refimpl.client.registry import Reference, Registry
from refimpl.client.registry_auth import Credentials
from refimpl.contract.context import CallContext

_SHOWN = 12
"""Hexadecimal digits of a digest that are shown."""


def pull(
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="Name of the image, such as alpine or localhost:5000/app:1.")
    ],
    user: Annotated[
        str, typer.Option("--user", "-u", help="NAME[:PASSWORD] for the registry; without a password it is asked for.")
    ] = "",
    plain_http: Annotated[
        bool | None, typer.Option(help="Whether to speak http.", show_default="with this machine only")
    ] = None,
    platform: Annotated[str, typer.Option(help="OS/ARCHITECTURE to take instead of this machine's.")] = "",
    all_platforms: Annotated[bool, typer.Option("--all-platforms", help="Take all platforms.")] = False,
    snapshotter: Snapshotter = DEFAULT_SNAPSHOTTER,
    unpack: Annotated[bool, typer.Option("--unpack/--no-unpack", help="Whether to unpack the layers.")] = True,
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """Pull an image from a registry.

    Fetches what the daemon has not got, checks all digests, and unpacks the layers. A pull that was interrupted goes on
    where it stopped. The image's record is made last, so there is none of half an image.

    \b
    refimpl pull alpine
    refimpl pull --user ann registry.example/team/app:1
    refimpl pull --platform linux/arm64 --no-unpack localhost:5000/app:1

    Exit status: 0 it is there, 1 it is not, 2 usage, 130 interrupted.
    """
    if platform and all_platforms:
        raise fail("either --platform or --all-platforms", 2)
    with one_line_errors(), Client(address) as client, _reporting(quiet=as_json) as report:
        choice = platforms.Choice.only(platforms.parse(platform)) if platform else None
        registry = Registry(Reference.parse(ref), credentials=_credentials(user), plain_http=plain_http)
        done = pull_image(
            CallContext(namespace=namespace),
            client,
            registry,
            choice=choice,
            every=all_platforms,
            snapshotter=snapshotter if unpack else "",
            report=report,
        )
    target = done.image.target
    if as_json:
        values = {"name": done.image.name, "mediaType": target.media_type, "digest": target.digest, "size": target.size}
        print(json.dumps({**values, "chainID": done.chain_id}, indent=2))
    else:
        print(f"{done.image.name} {target.digest}")


def _credentials(user: str) -> Credentials:
    name, colon, password = user.partition(":")
    if user and not colon:
        password = getpass.getpass(f"Password of {name}: ")
    return Credentials(name, password)


@contextmanager
def _reporting(*, quiet: bool) -> Iterator[Report]:
    """Bars on a terminal, a line for each blob elsewhere."""
    if quiet:
        yield lambda _: None
    elif sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bars(*columns, console=Console(file=sys.stdout)) as bars:
            yield _Drawn(bars)
    else:
        yield _print


def _print(progress: Progress) -> None:
    if progress.done:
        print(f"{_label(progress)}: {'there already' if progress.was_there else 'fetched'}", flush=True)


class _Drawn:
    """A bar for each blob; blobs report from several threads."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._known: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            blob = progress.descriptor
            if blob.digest not in self._known:
                self._known[blob.digest] = self._bars.add_task(_label(progress), total=blob.size)
            self._bars.update(self._known[blob.digest], completed=progress.offset)


def _label(progress: Progress) -> str:
    kind, _, hexadecimal = ref_of(progress.descriptor).replace("-sha256:", ":", 1).partition(":")
    return f"{kind} {hexadecimal[:_SHOWN]}"
