"""Plugin modules from a directory (DMN-040)."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.contract.types import Platform
from refimpl.daemon.plugin_dir import PluginFileError, load

MACHINE = Platform("linux", "amd64")


def test_a_missing_directory_is_fine(tmp_path: Path) -> None:
    assert load(tmp_path / "none", MACHINE) == []


def test_python_files_are_modules_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.py").write_text(f"NAME = '{name}'")
    (tmp_path / "other.so").write_text("")
    (tmp_path / "x-linux-arm64.so").write_text("")
    assert [module.NAME for module in load(tmp_path, MACHINE)] == ["a", "b"]


def test_a_shared_object_for_this_machine_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x-linux-amd64.so").write_text("text")
    with pytest.raises(PluginFileError, match=r"x-linux-amd64\.so"):
        load(tmp_path, MACHINE)


def test_a_module_that_does_not_load_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(PluginFileError, match=r"bad\.py: division by zero"):
        load(tmp_path, MACHINE)
