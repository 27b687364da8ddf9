"""The subjects with real backends: what they need, what they keep, and that nothing of them is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.subjects.base import SubjectError, opened
from conformance.subjects.real import RealSubject
from conformance.subjects.spec import parse
from refimpl.contract.context import CallContext
from refimpl.contract.snapshots import Kind
from tests.conformance.command import summary

CTX = CallContext(namespace="kept")


@pytest.mark.parametrize("spec", ["real", "daemon:real"])
def test_without_root_they_say_so(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SubjectError, match=f"{spec} needs root"), opened(parse(spec)):
        pass


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files whose path leaves room for sockets."""
    path = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path)


@pytest.mark.root
def test_a_restart_keeps_the_disk_and_the_end_leaves_nothing(short_tmp: Path) -> None:
    subject = RealSubject()
    with opened(subject):
        assert subject.root is not None
        assert subject.root.is_relative_to(short_tmp)
        assert subject.content is not None
        writer = subject.content.writer(CTX, "half")
        writer.write(b"hello")
        writer.close()
        mounts = subject.snapshotter("overlayfs").prepare(CTX, "work", labels={"containerd.io/gc.root": "tests"})
        assert subject.mounter is not None
        with subject.mounter.mounted(CTX, mounts) as tree:
            tree.write("/motd", b"hello")

        subject.restart()

        assert subject.content.status(CTX, "half").offset == 5
        snapshotter = subject.snapshotter("overlayfs")
        assert snapshotter.stat(CTX, "work").kind is Kind.ACTIVE
        with subject.mounter.mounted(CTX, snapshotter.mounts(CTX, "work")) as tree:
            assert tree.read("/motd") == b"hello"
        with subject.spawn() as other:
            assert other.content is not None
            assert other.content.list_statuses(CTX) == [], "another root"
        assert list((subject.root / "tmpmounts").iterdir()) == []
    assert list(short_tmp.iterdir()) == []
    assert str(short_tmp) not in Path("/proc/self/mounts").read_text()


@pytest.mark.root
def test_a_configuration_of_a_check_is_obeyed_and_one_that_fails_leaves_nothing(short_tmp: Path) -> None:
    bad = '[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "bogus"\n'
    with opened(RealSubject()) as subject, subject.spawn(bad) as instance:
        assert instance.content is None
    with pytest.raises(SubjectError, match="do not start"), opened(RealSubject(config=bad)):
        pass
    assert list(short_tmp.iterdir()) == []


@pytest.mark.root
def test_both_can_be_judged(short_tmp: Path) -> None:
    status, seen = summary("real", "daemon:real", "--clause", "CNT-093")
    assert status == 0
    for name in ("real", "daemon:real"):
        assert seen["subjects"][name]["passed"] > 0
        assert seen["subjects"][name]["failed"] == 0
    assert [path.name for path in short_tmp.iterdir() if path.name.startswith("cfm-")] == []


@pytest.mark.root
def test_a_differ_can_be_judged_on_the_content_of_a_daemon(short_tmp: Path) -> None:
    with opened(parse("daemon:real")) as daemon:
        address = daemon.address
        spec, nowhere = f"diff+unix://{address}?daemon={address}", f"diff+unix:///nowhere.sock?daemon={address}"
        status, seen = summary(spec, nowhere, "--clause", "DIF-001")
    assert status == 2
    assert seen["subjects"][spec]["failed"] == 0
    assert seen["subjects"][spec]["passed"] > 0
