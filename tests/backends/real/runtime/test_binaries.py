"""How the name of a runtime leads to a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.backends.real.runtime.binaries import ShimBinaries, shim_name
from refimpl.contract.errors import Unknown


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is found but what a test has made."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "daemon" / "refimpl")])
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


@pytest.mark.parametrize("runtime", ["io.containerd.runc.v2", "x.y.z.runc.v2", "runc.v2"])
def test_the_last_two_parts_of_a_name_count(runtime: str) -> None:
    assert shim_name(runtime) == "containerd-shim-runc-v2"


@pytest.mark.parametrize("runtime", ["", "nodots", ".", "a.", ".b", "./runc.v2", "sub/x.fake.v9"])
def test_what_is_no_name_of_a_runtime_is_refused(runtime: str) -> None:
    with pytest.raises(Unknown, match="invalid runtime name"):
        shim_name(runtime)


@pytest.mark.parametrize("place", ["cwd", "bin", "daemon"])
def test_a_shim_is_found_in_each_of_its_places(elsewhere: Path, place: str) -> None:
    program = _program(elsewhere / place / "containerd-shim-a-b")

    assert ShimBinaries().resolve("a.b") == str(program)


def test_the_working_directory_comes_first_and_the_daemons_own_last(elsewhere: Path) -> None:
    found = []
    for place in ("daemon", "bin", "cwd"):
        _program(elsewhere / place / "containerd-shim-a-b")
        found.append(ShimBinaries().resolve("a.b"))

    assert found == [str(elsewhere / place / "containerd-shim-a-b") for place in ("daemon", "bin", "cwd")]


def test_what_was_found_once_is_not_looked_for_again(elsewhere: Path) -> None:
    program = _program(elsewhere / "bin" / "containerd-shim-a-b")
    binaries = ShimBinaries()
    binaries.resolve("a.b")
    program.rename(elsewhere / "cwd" / program.name)

    assert binaries.resolve("other.a.b") == str(program)


def test_what_is_not_there_is_told_by_both_names() -> None:
    with pytest.raises(Unknown) as caught:
        ShimBinaries().resolve("io.containerd.nosuch.v9")

    assert str(caught.value) == (
        'runtime "io.containerd.nosuch.v9" binary not installed "containerd-shim-nosuch-v9": file does not exist'
    )


def test_a_path_is_taken_as_it_is_if_it_is_there(elsewhere: Path) -> None:
    program = _program(elsewhere / "any" / "name")

    assert ShimBinaries().resolve(str(program)) == str(program)
    with pytest.raises(Unknown, match="stat /no/such: no such file or directory"):
        ShimBinaries().resolve("/no/such")
