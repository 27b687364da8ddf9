"""The ``refimpl`` command. A new sub-command is one entry in ``COMMANDS``.

A command is imported when it is called, and typer only for those that need it: ``serve`` has to be ready in a quarter
of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from refimpl.cli import plain


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command.

    Attributes:
        target: ``module:attribute`` of a function or of a ``typer.Typer``.
        summary: how its own help begins; here so that to list the commands does not load them all.
    """

    name: str
    target: str
    summary: str


COMMANDS: tuple[Command, ...] = (
    Command("serve", "refimpl.cli.serve:serve", "Run the daemon until SIGTERM or SIGINT."),
    Command("plugins", "refimpl.cli.plugins:app", "List, draw and describe plugins."),
    Command("config", "refimpl.cli.config:app", "Print, migrate and check configurations."),
    Command("publish", "refimpl.cli.publish:publish", "Publish an event: a serialized google.protobuf.Any."),
    Command(
        "oci-hook",
        "refimpl.cli.oci_hook:oci_hook",
        "Run a command as an OCI hook, with the container's facts in its arguments and environment.",
    ),
    Command(
        "conform",
        "conformance.cli:conform",
        "Judge implementations of containerd's architecture, clause by clause.",
    ),
    Command(
        "compare",
        "conformance.machines.cli:random_",
        "Perform the same random operations on two subjects and compare what comes of each.",
    ),
    Command("clauses", "conformance.cli:clauses_app", "The clauses of the contract: list them, show one whole."),
    Command(
        "serve-plugin",
        "refimpl.cli.serve_plugin:serve_plugin",
        "Serve a snapshotter, content store or differ as a proxy plugin.",
    ),
    Command("pull", "refimpl.cli.pull:pull", "Pull an image from a registry."),
    Command("run", "refimpl.cli.run:app", "Run a container from an image that was pulled or imported."),
    Command("ps", "refimpl.cli.ps:ps", "List the containers that run; with --all also those that do not."),
    Command("exec", "refimpl.cli.exec:app", "Run a command in a running container."),
    Command(
        "stop",
        "refimpl.cli.stop:stop",
        "Stop containers: send each its image's stop signal (TERM, unless it names one), then KILL after --timeout.",
    ),
    Command("rm", "refimpl.cli.rm:rm", "Remove containers that have ended, each with its task and its snapshot."),
    Command("gc", "refimpl.cli.gc:app", "Ask about garbage collection."),
    Command("bolt", "refimpl.cli.bolt:app", "Look into a database file."),
    Command(
        "version",
        "refimpl.cli.version:version",
        "Print the version of this package, and with --address that of a daemon.",
    ),
)

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; None for the process's own.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a command line that makes no sense.
    """
    # gRPC's own remarks on standard error are for gRPC's developers; what matters comes as a status or an exception.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = plain.read(given)
        if options is not None:
            return plain.start(options)
        # All others need typer.
        from refimpl.cli.root import run  # noqa: PLC0415

        status = run(given, COMMANDS)
        # Here, where a reader who has enough is expected, and not when the interpreter ends.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
