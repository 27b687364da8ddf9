"""For authors: three lines in their own test-suite, and nothing red that is only a missing setting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.author import PluginSubject
from conformance.subjects.base import SubjectError
from conformance.subjects.python import load
from tests.outsiders.copying import CopyingSnapshotter
from tests.outsiders.shelf import Shelf

REPOSITORY = Path(__file__).resolve().parents[2]

CONFTEST = """\
from conformance.author import PluginSubject
from tests.outsiders.copying import snapshotter

def conformance_subjects(config):
    return [PluginSubject("mine", snapshotter=snapshotter(), snapshotter_id="copying")]
"""


def author_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An author's own pytest run, in a project of its own."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_contract.py").write_text("from conformance.suites.snapshots import *\n")
    plugins = ["-p", "no:cacheprovider", "-p", "conformance.plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", *plugins, *arguments],
        cwd=folder, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_three_lines_run_what_fits_and_skip_the_rest_with_the_missing_word(tmp_path: Path) -> None:
    done = author_run(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " failed" not in done.stdout
    assert " passed" in done.stdout
    assert "needs mount: the mounts of this subject cannot be performed from here" in done.stdout


def test_one_of_several_subjects_can_be_chosen_by_name(tmp_path: Path) -> None:
    assert author_run(tmp_path, "--subject", "mine", "--clause", "SNP-016").returncode == 0
    done = author_run(tmp_path, "--subject", "theirs")
    assert done.returncode != 0
    assert "'theirs' is no subject" in done.stdout + done.stderr


def test_a_setting_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="'luck' is no capability"):
        PluginSubject("x", content=Shelf(), capabilities=["luck"])  # type: ignore[arg-type]
    with pytest.raises(SubjectError, match="nothing to judge"):
        PluginSubject("x")


def test_what_an_author_gives_is_what_is_offered(tmp_path: Path) -> None:
    closed: list[bool] = []
    plugin = CopyingSnapshotter(tmp_path)
    subject = PluginSubject("x", snapshotter=plugin, content=Shelf(), capabilities=["xattr"], close=lambda: closed.append(True))  # type: ignore[arg-type]  # fmt: skip
    assert {"snapshotter", "content", "xattr"} <= subject.offers
    assert "mount" not in subject.offers
    assert "leases" not in subject.offers
    assert set(subject.identity().serves) == {"io.containerd.snapshotter.v1.x", "io.containerd.content.v1.content"}
    with pytest.raises(SubjectError, match="no snapshotter y"):
        subject.snapshotter("y")
    subject.close()
    subject.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("python:tests.outsiders.shelf", "expected python:package.module:factory"),
        ("python:no.such.module:x", "ModuleNotFoundError"),
        ("python:tests.outsiders.shelf:nothing", "AttributeError"),
        ("python:builtins:dict", "made a dict, which is no snapshotter"),
    ],
)
def test_a_factory_that_makes_no_plugin_is_refused(spec: str, complaint: str) -> None:
    with pytest.raises(SubjectError, match=complaint):
        load(spec)


def test_a_factory_may_make_a_plugin_or_a_subject() -> None:
    assert load("python:tests.outsiders.shelf:content").offers >= {"content"}
    snapshotter = load("python:tests.outsiders.copying:snapshotter")
    assert snapshotter.snapshotters == ("snapshotter",)
    snapshotter.close()
