"""The daemon's command line without typer: the same as with it, and without what typer brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from refimpl.cli import COMMANDS, plain, root
from refimpl.cli.serve import serve
from refimpl.daemon.serve import Options

OPTIONS = [*plain._VALUES, *plain._FLAGS]
VALUES = st.sampled_from(["/a b", "auto", "debug", "-x", "--root", "", "=", "a=b", "é", "\x00", "\n", "\udc80"])
WORDS = st.sampled_from([*OPTIONS, "--help", "--", "word", "--roo", "-d", "--no-hide-mounts"])
SPELT = st.tuples(WORDS, VALUES).flatmap(
    lambda pair: st.sampled_from([[pair[0]], list(pair), [f"{pair[0]}={pair[1]}"], ["".join(pair)]])
)


def by_typer(line: list[str]) -> Options:
    """What typer makes of a line.

    Raises:
        AssertionError: it starts nothing.
    """
    started: list[dict[str, Any]] = []

    def start(options: dict[str, Any]) -> int:
        started.append(options)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "start", start)
        status = root.run(line, COMMANDS)
    assert (status, len(started)) == (0, 1)
    return Options(**started[0])


@given(st.lists(SPELT, max_size=4))
@example([])
@example([["--backends", "fake"], ["--config=/c.toml"], ["-a", "/sock"], ["--hide-mounts"], ["-a", "/other"]])
def test_what_is_read_is_what_typer_reads(spelt: list[list[str]]) -> None:
    line = ["serve", *(word for words in spelt for word in words)]
    options = plain.read(line)
    if options is not None:
        assert Options(**options) == by_typer(line)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_read(option: str) -> None:
    line = ["serve", option] if option in plain._FLAGS else ["serve", option, "value"]
    options = plain.read(line)
    assert options is not None
    assert Options(**options) == by_typer(line) != Options()


def test_no_option_was_forgotten() -> None:
    single = typer.Typer(add_completion=False)
    single.command()(serve)
    known = {name for parameter in typer.main.get_command(single).params for name in parameter.opts}
    assert known == {*OPTIONS}


@pytest.mark.parametrize(
    "line",
    [
        ["version"],
        ["--address", "/a", "serve"],
        ["serve", "--help"],
        ["serve", "word"],
        ["serve", "--root"],
        ["serve", "--root", "--state"],
        ["serve", "--root="],
        ["serve", "-a=/sock"],
        ["serve", "--hide-mounts=yes"],
        ["serve", "--roo", "/r"],
    ],
)
def test_all_else_is_left_to_typer(line: list[str]) -> None:
    assert plain.read(line) is None


def test_a_daemon_that_runs_has_loaded_nothing_it_does_not_need(tmp_path: Path) -> None:
    script = (
        "import gc, sys\n"
        "from refimpl.cli import main\n"
        "from refimpl.daemon.signals import Signals\n"
        "Signals.wait = lambda self: print(gc.isenabled(), gc.get_freeze_count() > 0, *sys.modules)\n"
        "sys.exit(main())\n"
    )
    base = [f"--{name}={tmp_path / name}" for name in ("root", "state", "address")]
    done = subprocess.run(
        [sys.executable, "-c", script, "serve", "--backends", "fake", *base],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    collects, frozen, *modules = done.stdout.split()
    assert (collects, frozen) == ("True", "True")
    assert "refimpl.backends.fake.content" in modules
    unwanted = "typer pydantic rich pytest hypothesis prometheus_client opentelemetry conformance"
    assert set(unwanted.split()).isdisjoint(modules)
    assert not [name for name in modules if name.startswith(("refimpl.backends.real", "refimpl.client"))]
