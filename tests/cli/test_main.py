"""The command as a whole: help, mistakes, statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

import refimpl.cli
from refimpl import __version__
from refimpl.cli import COMMANDS, main, root
from refimpl.cli.lazy import LazyGroup
from tests.cli.commands import Command


def test_the_version_is_one_line_of_four_words(refimpl: Command) -> None:
    for flag in ("--version", "-v"):
        done = refimpl(flag)
        assert (done.status, done.out.split(" ")) == (0, ["refimpl", "refimpl", __version__, "\n"])


def test_the_help_lists_every_command(refimpl: Command) -> None:
    done = refimpl("--help")
    assert done.status == 0
    assert all(command.name in done.out for command in COMMANDS)


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_has_help(refimpl: Command, name: str) -> None:
    done = refimpl(name, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"refimpl {name}" in done.out


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["nosuch"], "refimpl: No such command 'nosuch'. (see: refimpl --help)\n"),
        (["serve", "--nosuch"], "refimpl: No such option: --nosuch (see: refimpl serve --help)\n"),
        (["plugins", "nosuch"], "refimpl: No such command 'nosuch'. (see: refimpl plugins --help)\n"),
        (["plugins", "show"], "refimpl: Missing argument 'uri'. (see: refimpl plugins show --help)\n"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told_in_one_line(
    refimpl: Command, arguments: list[str], message: str
) -> None:
    done = refimpl(*arguments)
    assert (done.status, done.err, done.out) == (2, message, "")


def test_the_help_says_of_each_command_what_its_own_help_says() -> None:
    group = typer.main.get_command(root.app)
    assert isinstance(group, LazyGroup)
    group.targets = {command.name: command.target for command in COMMANDS}
    for command in COMMANDS:
        first = (group.get_command(None, command.name).help or "").split("\n\n")[0]
        assert command.summary == " ".join(first.split()), command.name


def test_the_help_loads_no_command() -> None:
    script = "import sys; from refimpl.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert all(command.summary.split()[0] in done.stdout for command in COMMANDS)
    assert loaded & {"conformance", "grpc", "hypothesis", "pytest"} == set()


def test_without_a_command_there_is_help(refimpl: Command) -> None:
    done = refimpl()
    assert done.status == 2
    assert "serve" in done.out + done.err


def test_a_reader_who_has_enough_gets_no_complaint() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "refimpl", "config", "default"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert said == b""


def test_an_interrupted_command_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("refimpl.cli.lazy.LazyGroup.main", interrupt)
    assert main(["version"]) == 130


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("refimpl.cli.lazy.LazyGroup.main", fail)
    with pytest.raises(ZeroDivisionError):
        main(["version"])


def test_commands_are_imported_when_they_are_called() -> None:
    script = "import sys, refimpl.cli; print([name for name in sys.modules if name.startswith('refimpl.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert set(eval(done.stdout)) == {"refimpl.cli", "refimpl.cli.plain"}


def test_every_target_is_there() -> None:
    package = Path(refimpl.cli.__file__).parent
    for command in COMMANDS:
        module = command.target.partition(":")[0]
        if module.startswith("refimpl.cli."):
            assert (package / f"{module.rpartition('.')[2]}.py").exists(), command


def test_the_version_of_a_daemon(refimpl: Command, address: str) -> None:
    done = refimpl("version", "--address", address)
    assert done.status == 0
    client, server = done.out.split("\n\n")
    assert client.startswith(f"Client:\n  Version:  {__version__}\n")
    assert server.startswith(f"Server:\n  Version:  {__version__}\n")
    assert "UUID: " in server


def test_without_a_daemon_there_is_only_our_own_version(refimpl: Command) -> None:
    assert "Server" not in refimpl("version").out


def test_a_daemon_that_is_not_there_is_told_in_one_line(refimpl: Command) -> None:
    done = refimpl("version", "--address", "/nonexistent.sock")
    assert done.status == 1
    assert done.err.startswith("refimpl: ")
    assert done.err.count("\n") == 1
