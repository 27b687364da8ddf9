"""For authors: two short files in their own project, and nothing red that is only a missing setting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conformance.areas import AREAS, BUILT
from conformance.author import PluginSubject, checks
from conformance.coverage import checks as names_of_checks
from conformance.subjects.base import SubjectError
from conformance.subjects.python import load
from tests.conformance.command import LIMIT
from tests.outsiders.copying import CopyingSnapshotter
from tests.outsiders.shelf import Shelf

REPOSITORY = Path(__file__).resolve().parents[2]

CONFTEST = """\
from conformance.author import PluginSubject
from tests.outsiders.copying import snapshotter

def conformance_subjects(config):
    return [PluginSubject("mine", snapshotter=snapshotter(), snapshotter_id="copying")]
"""

TESTS = """\
from conformance.author import checks

globals().update(checks("snapshots"))
"""


def author_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An author's own pytest run, in a project of its own."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_contract.py").write_text(TESTS)
    # Nothing names our pytest plugin: installing refimpl has registered it.
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def test_two_short_files_run_what_fits_and_skip_the_rest_with_the_missing_word(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("area", BUILT)
def test_no_check_of_an_area_is_lost(area: str) -> None:
    """The area's modules are put together in one: each name may stand for one thing only."""
    wanted = {name for name, _ in names_of_checks(area)}
    assert wanted <= set(checks(area))


def test_both_kinds_of_plugin_can_be_judged_in_one_module() -> None:
    both = checks("snapshots", "content")
    assert both == checks("content") | checks("snapshots")


@pytest.mark.parametrize(
    "areas, complaint",
    [
        (["snapshot"], "there is no area 'snapshot'; with checks there are: content, snapshots"),
        (["snapshots", "cri"], f"area cri has no checks yet: {AREAS['cri'].reason}"),
        ([], "name the areas whose checks are wanted; there are: content, snapshots"),
    ],
)
def test_an_area_without_checks_is_refused_by_name(areas: list[str], complaint: str) -> None:
    with pytest.raises(LookupError, match=complaint):
        checks(*areas)


@pytest.mark.parametrize(
    "one, other, complaint",
    [
        ("def test_x(): 1", "def test_x(): 2", "suites.b and conformance.suites.a both have test_x"),
        ("@fixture\ndef x(): 1", "@fixture\ndef x(): 2", "suites.b and conformance.suites.a both have x"),
        ("def test_x(): 1", "@fixture\ndef ctx(): 2", "suites.b has a fixture ctx that hides the one"),
    ],
)
def test_a_name_for_two_things_is_refused(
    one: str, other: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Two:
        modules = ("a", "b")

    for name, text in (("a", one), ("b", other)):
        module = ModuleType(name)
        exec(f"from pytest import fixture\n{text}", vars(module))
        monkeypatch.setitem(sys.modules, f"conformance.suites.{name}", module)
    monkeypatch.setitem(AREAS, "content", Two())  # what is asked for of an area
    with pytest.raises(NameError, match=complaint):
        checks("content")


def test_a_setting_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="'luck' is no capability"):
        PluginSubject("x", content=Shelf(), capabilities=["luck"])
    with pytest.raises(SubjectError, match="nothing to judge"):
        PluginSubject("x")


def test_what_an_author_gives_is_what_is_offered(tmp_path: Path) -> None:
    closed: list[bool] = []
    plugin = CopyingSnapshotter(tmp_path)
    store = Shelf()
    subject = PluginSubject(
        "x", snapshotter=plugin, content=store, capabilities=["xattr"], close=lambda: closed.append(True)
    )
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
    "spec, complaint",
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
