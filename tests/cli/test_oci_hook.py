"""``refimpl oci-hook``: the container's facts in a command (DMN-064, DMN-065)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from refimpl.cli.oci_hook import expand


def hook(state: object, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "refimpl", "oci-hook", *(["--", *command] if command else [])],
        input=state if isinstance(state, str) else json.dumps(state),
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"root": {"path": "rootfs"}}')
    return tmp_path


def state(bundle: Path) -> dict[str, object]:
    return {"id": "c1", "pid": 4242, "status": "created", "bundle": str(bundle), "annotations": {"k": "vv"}}


def test_arguments_and_environment_are_expanded_and_the_status_is_the_commands(bundle: Path) -> None:
    script = "echo $0 $V; exit 7"
    facts = '{{id}} {{ bundle }} {{rootfs}} {{pid}} {{annotation "k"}} {{status}} [{{annotation "none"}}]'
    done = hook(state(bundle), "/bin/sh", "-c", script, facts, env={"V": "{{id}}"})
    assert done.returncode == 7
    assert done.stdout == f"c1 {bundle} {bundle}/rootfs 4242 vv created [] c1\n"


def test_an_absolute_root_stays(bundle: Path) -> None:
    (bundle / "config.json").write_text('{"root": {"path": "/abs"}}')
    assert hook(state(bundle), "/bin/echo", "{{rootfs}}").stdout == "/abs\n"


def test_mistakes_end_with_status_1_and_a_line(bundle: Path) -> None:
    for done, said in (
        (hook("zz", "/bin/true"), "Expecting value"),
        (hook("[]", "/bin/true"), "no JSON object"),
        (hook({"id": "x"}, "/bin/true"), "config.json"),
        (hook(state(bundle), "/bin/echo", "{{nosuch}}"), 'function "nosuch" not defined'),
        (hook(state(bundle), "echo"), "echo"),
        (hook(state(bundle)), "needs a command"),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_value_with_braces_is_not_expanded_again() -> None:
    assert expand("{{a}}", {"a": lambda _: "{{b}}"}) == "{{b}}"


def test_braces_that_do_not_close_are_an_error() -> None:
    with pytest.raises(ValueError, match="unexpected action"):
        expand("{{a", {"a": lambda _: ""})
