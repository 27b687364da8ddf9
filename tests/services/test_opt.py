"""The directory for managed binaries: made, in front of the search paths, and given back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.kernel import InitContext, Kernel, Registration
from refimpl.services import opt


def kernel(path: str, backend: str) -> Kernel:
    def with_path(registration: Registration) -> Registration:
        def init(ic: InitContext) -> object:
            ic.config = opt.Config(path=path)
            return registration.init(ic)

        return Registration(
            registration.type, registration.id, init=init, config=opt.Config, backend=registration.backend
        )

    registrations = [with_path(each) for each in opt.refimpl_registrations()]
    return Kernel(registrations, root=Path("/nowhere"), state=Path("/nowhere"), backends=backend)


URI = "io.containerd.internal.v1.opt"


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_directories_are_made_with_missing_parents_and_stand_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    path = tmp_path / "a" / "b"
    made = kernel(str(path), "real")
    plugin = made.boot()[URI]
    assert plugin.error is None
    assert plugin.exports == {"path": str(path)}
    for folder in (path.parent, path, path / "bin", path / "lib"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert os.environ["PATH"] == f"{path}/bin:/usr/bin"
    assert os.environ["LD_LIBRARY_PATH"] == f"{path}/lib:"

    made.close()
    assert os.environ["PATH"] == "/usr/bin"
    assert "LD_LIBRARY_PATH" not in os.environ
    assert (path / "bin").is_dir(), "nothing is removed on stop"


def test_an_empty_path_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = kernel("", "real")
    plugin = made.boot()[URI]
    assert plugin.exports == {"path": ""}
    assert (tmp_path / "bin").is_dir()
    assert os.environ["PATH"].startswith(f"{tmp_path}/bin:")
    made.close()


def test_a_path_that_cannot_be_made_fails_the_plugin_and_keeps_its_export() -> None:
    plugin = kernel("/proc/nope", "real").boot()[URI]
    assert str(plugin.error) == "mkdir /proc/nope: no such file or directory"
    assert plugin.exports == {"path": "/proc/nope"}


def test_in_the_fake_world_the_path_is_told_and_nothing_is_touched(tmp_path: Path) -> None:
    before = dict(os.environ)
    plugin = kernel(str(tmp_path / "opt"), "fake").boot()[URI]
    assert (plugin.error, plugin.exports) == (None, {"path": str(tmp_path / "opt")})
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_the_default_is_containerds() -> None:
    assert opt.Config().path == "/opt/containerd"
