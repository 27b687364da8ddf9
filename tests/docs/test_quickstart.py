"""The quick start's walk through containers does what it shows, on a fake daemon and with a registry of our own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from refimpl.testing import fake_containerd
from refimpl.testing.images import PROGRAMS
from tests.client.registry import serving, tar
from tests.docs.test_readme import blocks

SECONDS = 60.0
SHOWN, SHORT = "docker.io/library/alpine:latest", "alpine"


def test_the_walk_through_containers_prints_what_it_shows(repository: Path) -> None:
    text = (repository / "docs/guide/quickstart.md").read_text(encoding="utf-8")
    [block] = [found for found in blocks(text, "console") if "refimpl pull" in found]
    steps = re.findall(r"^\$ refimpl (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)

    with serving() as registry, fake_containerd(wall_time=True) as daemon:
        image = registry.name(registry.image([tar({f"bin/{name}": b"" for name in PROGRAMS})], Env=["PATH=/bin"]))
        for command, shown in steps:
            words = [image if word == SHORT else word for word in shlex.split(command)]
            done = subprocess.run(
                [sys.executable, "-m", "refimpl", *words],
                env=daemon.environment, capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            assert done.stderr == "", command
            assert re.fullmatch(_pattern(shown), _squeezed(done.stdout.replace(image, SHOWN)), re.DOTALL), done.stdout

    assert len(steps) == 7


def _pattern(shown: str) -> str:
    """What is shown as a regular expression; dots stand for anything."""
    return re.escape(_squeezed(shown)).replace(re.escape("..."), ".*")


def _squeezed(text: str) -> str:
    """Columns are as wide as what is in them; how wide is not what a reader looks at."""
    return re.sub(r" +", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))
