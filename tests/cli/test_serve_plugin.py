"""``refimpl serve-plugin``: how it refuses. What it serves is in tests/conformance and tests/acceptance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Command

NATIVE = "io.containerd.snapshotter.v1.native"


@pytest.mark.parametrize("arguments", [("json:loads",), (NATIVE, "--root", "relative")])
def test_without_a_working_directory_it_ends_with_a_line(
    refimpl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = refimpl("serve-plugin", *arguments, "--address", str(tmp_path / "s"))
    assert (done.status, done.out, done.err) == (1, "", "refimpl: no such file or directory\n")


@pytest.mark.parametrize(
    "arguments,status,said",
    [
        ((NATIVE,), 2, "--root: in which directory does the plugin keep its files?"),
        (("no-factory",), 2, "no-factory: expected PACKAGE.MODULE:FACTORY, or the URI of a plugin"),
        ((f"{NATIVE}s",), 1, f"plugin {NATIVE}s: not found"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(
    refimpl: Command, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    root = ("--root", str(tmp_path / "root")) if status == 1 else ()
    done = refimpl("serve-plugin", *arguments, *root, "--address", str(tmp_path / "s"))
    assert (done.status, done.out, done.err) == (status, "", f"refimpl: {said}\n")
