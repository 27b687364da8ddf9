"""What the acceptance tests share: places that another user can reach, archives, and one way to play a chapter."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import daemons, images


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A directory for daemons and archives that everybody may enter; pytest's own are closed.

    Its path is short because sockets lie below it.
    """
    with tempfile.TemporaryDirectory(prefix="acceptance-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def base(ground: Path) -> Path:
    """A base directory for one daemon; not yet there."""
    return Path(tempfile.mkdtemp(dir=ground)) / "d"


@pytest.fixture(autouse=True)
def _open_base(base: Path) -> None:
    base.parent.chmod(0o755)


@pytest.fixture(scope="session")
def fixed_archives(ground: Path) -> images.Images:
    """Archives that are the same on every machine, as the goldens have them."""
    return _build(ground / "fixed", images.stand_in_program())


@pytest.fixture(scope="session")
def archives(ground: Path) -> images.Images:
    """Archives with this machine's busybox."""
    return _build(ground / "busybox", images.program())


@pytest.fixture(
    params=["refimpl", pytest.param("containerd", marks=[pytest.mark.root, pytest.mark.debian("containerd")])]
)
def either(request: pytest.FixtureRequest, base: Path) -> Iterator[daemons.Daemon]:
    """First refimpl, then the real daemon, not yet started: for what must hold of both."""
    daemon = daemons.containerd(base) if request.param == "containerd" else daemons.refimpl(base)
    yield daemon
    daemon.end()


@pytest.fixture
def fake(base: Path) -> Iterator[daemons.Daemon]:
    """Refimpl on fakes, not yet started."""
    daemon = daemons.refimpl(base)
    yield daemon
    daemon.end()


@pytest.fixture
def plain_user() -> int | None:
    """A user without any right: nobody where the tests run as root, else whoever runs them."""
    if os.geteuid() != 0:
        return None
    user = daemons.nobody()
    try:
        daemons.interpreter(user)
    except LookupError as error:
        # The checkout or its Python lies where nobody may go: no fault of the daemon, and nothing to mend here.
        pytest.xfail(str(error))
    return user


def _build(directory: Path, program: bytes) -> images.Images:
    directory.mkdir()
    directory.chmod(0o755)
    return images.build(directory, program)
