"""Selection and the pool: who is judged by what, and when a subject is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conformance.run import UsageError, Wish, run
from conformance.selection import binds, snapshotters, wanted
from conformance.subjects.base import Identity, Subject, SubjectError
from conformance.subjects.configuration import merged
from conformance.subjects.pool import STRIKES, SubjectPool
from conformance.subjects.spec import parse

ALL = ("overlayfs", "native")


class Options:
    """The part of ``pytest.Config`` that selection reads."""

    def __init__(self, **options: Any) -> None:
        self._options = {"area": [], "clause": [], "plugin_uri": [], "profile": "", **options}

    def getoption(self, name: str) -> Any:
        return self._options[name.removeprefix("--").replace("-", "_")]


def chosen(id: str, subject: Subject | None = None, **options: Any) -> bool:
    return wanted([id], subject or Subject("x"), Options(**options))  # type: ignore[arg-type]


def test_a_clause_about_all_snapshotters_is_judged_on_each_and_one_about_layers_above_on_the_first() -> None:
    assert snapshotters(["SNP-016"], ALL) == list(ALL)
    assert snapshotters(["CNT-001"], ALL) == ["overlayfs"]


def test_options_narrow_the_run() -> None:
    assert chosen("CNT-001")
    assert chosen("CNT-001", area=["content"])
    assert not chosen("CNT-001", area=["images"])
    assert chosen("CNT-001", clause=["CNT-001"])
    assert not chosen("CNT-001", clause=["CNT-002"])
    assert chosen("CNT-001", plugin_uri=["io.containerd.grpc.v1.content"])
    assert not chosen("CNT-001", plugin_uri=["io.containerd.grpc.v1.images"])


def test_a_profile_leaves_out_what_came_later() -> None:
    assert chosen("CNT-084")
    assert not chosen("CNT-084", profile="1.6")
    assert chosen("CNT-084", profile="2.3")
    assert chosen("CNT-001", profile="1.6")


def test_a_plugin_alone_is_judged_only_by_what_binds_its_kind() -> None:
    alone = Subject("x")
    alone.types = frozenset({"io.containerd.snapshotter.v1"})
    assert chosen("SNP-016", alone)
    assert not chosen("CNT-001", alone)
    assert binds(["*"], alone.types)


class Failing(Subject):
    """A subject that does not open, or dies on request."""

    def __init__(self, open_: Callable[[], None] = lambda: None, alive: str = "") -> None:
        super().__init__("failing")
        self._open, self._alive = open_, alive
        self.closed = 0

    def open(self) -> None:
        self._open()

    def alive(self) -> str:
        return self._alive

    def close(self) -> None:
        self.closed += 1

    def identity(self) -> Identity:
        return Identity("it", "1")


def raising(error: Exception) -> Callable[[], None]:
    def open_() -> None:
        raise error

    return open_


@pytest.mark.parametrize("error, text", [(SubjectError("no"), "no"), (ValueError("odd"), "ValueError: odd")])
def test_a_subject_that_does_not_open_says_why_every_time(error: Exception, text: str) -> None:
    pool = SubjectPool()
    pool.add(Failing(raising(error)))
    for _ in range(2):
        with pytest.raises(SubjectError, match=text):
            pool.get("failing")
    assert pool.identities() == {}


def test_a_subject_that_died_is_not_asked_again() -> None:
    pool = SubjectPool()
    pool.add(Failing(alive="the daemon ended"))
    pool.get("failing")
    pool.saw_failure("failing", timed_out=False)
    with pytest.raises(SubjectError, match="the daemon ended"):
        pool.get("failing")


def test_a_subject_is_given_up_after_some_time_outs_in_a_row_and_no_sooner() -> None:
    pool = SubjectPool()
    pool.add(Failing())
    pool.get("failing")
    for _ in range(STRIKES - 1):
        pool.saw_failure("failing", timed_out=True)
    pool.saw_success("failing")
    for _ in range(STRIKES - 1):
        pool.saw_failure("failing", timed_out=True)
    pool.get("failing")
    pool.saw_failure("failing", timed_out=True)
    assert pool.error("failing").startswith("given up")


def test_a_subject_for_one_check_is_closed_after_it() -> None:
    pool, subject = SubjectPool(), Failing()
    subject.ephemeral = True
    pool.add(subject)
    pool.get("failing")
    pool.done("failing")
    pool.close()
    assert subject.closed == 1


def test_subjects_are_written_as_the_help_says() -> None:
    for spec in (
        "fake",
        "real",
        "daemon:fake",
        "unix:///x.sock",
        "snapshotter+unix:///x.sock?id=mine",
        "content+unix:///x.sock",
        "diff+unix:///x.sock?daemon=/c.sock",
    ):
        assert parse(spec).name == spec
    for spec in ("", "fakes", "daemon:none", "snapshotter+unix://", "diff+unix:///x.sock", "tcp://x"):
        with pytest.raises(SubjectError):
            parse(spec)


@pytest.mark.parametrize(
    "wish, complaint",
    [
        (Wish(areas=["nothing"]), "there is no area 'nothing'"),
        (Wish(areas=["cri"]), "area cri has no checks yet"),
        (Wish(clauses=["CNT-999"]), "there is no clause 'CNT-999'"),
        (Wish(subjects=["nobody"]), "'nobody' is no subject"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_runs(wish: Wish, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(wish)


def test_a_configuration_is_merged_table_by_table() -> None:
    base = 'version = 2\ndisabled_plugins = ["a"]\n[plugins."x"]\na = 1\nb = 2\n'
    assert merged(base, "") == base
    text = merged(base, '[plugins."x"]\nb = 3\n[plugins."y"]\nc = 4\n')
    for line in ("version = 2", "a = 1", "b = 3", "c = 4"):
        assert line in text
