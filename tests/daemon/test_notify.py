"""Telling whoever started us (DMN-049)."""

from __future__ import annotations

import logging
import socket
import uuid
from pathlib import Path

import pytest

from refimpl.daemon.notify import READY, STOPPING, notify


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_states_arrive_as_datagrams(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"@refimpl-test-{uuid.uuid4()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(60)
        receiver.bind(f"\0{name[1:]}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify(READY)
        notify(STOPPING)
        assert [receiver.recv(100), receiver.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_a_listener_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY)
    assert caplog.messages == []


def test_a_failure_is_only_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("refimpl").propagate = True
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/n")
    notify(READY)
    notify(STOPPING)
    assert caplog.messages == ["notify ready failed", "notify stop failed"]
