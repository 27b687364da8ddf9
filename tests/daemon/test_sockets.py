"""Sockets: their place, their mode, what stands in their way (DMN-023 to DMN-027, DMN-046)."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refimpl.daemon import sockets
from refimpl.daemon.sockets import ListenError

ME = os.geteuid(), os.getegid()


@contextmanager
def listening(path: Path, uid: int = ME[0], gid: int = ME[1]) -> Iterator[socket.socket]:
    listener = sockets.listen(path, uid, gid)
    try:
        yield listener
    finally:
        listener.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_socket_is_open_to_owner_and_group_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listening(tmp_path / "s"):
            assert mode(tmp_path / "s") == 0o660
        assert os.umask(0) == 0, "the umask is as before"
    finally:
        os.umask(before)


@pytest.mark.root
def test_a_socket_and_only_its_last_new_directory_are_given_to_the_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with listening(tmp_path / "new/sub/s", 1234, 5678):
            owners = [(path.lstat().st_uid, path.lstat().st_gid, mode(path)) for path in
                      (tmp_path / "new", tmp_path / "new/sub", tmp_path / "new/sub/s")]  # fmt: skip
    finally:
        os.umask(before)
    assert owners == [(0, 0, 0o750), (1234, 5678, 0o750), (1234, 5678, 0o660)]


def test_a_directory_that_is_there_is_not_changed(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with listening(tmp_path / "s"):
        assert mode(tmp_path) == 0o711


def test_the_default_owner_is_left_out_by_who_is_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.lchown", lambda *_: pytest.fail("nothing to give"))
    sockets.chown(tmp_path, 0, 0)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        pass
    assert not sockets.answers(tmp_path / "s")
    with listening(tmp_path / "s"):
        assert sockets.answers(tmp_path / "s")


def test_a_socket_that_answers_is_refused_and_left_alone(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        with pytest.raises(ListenError, match="another daemon answers there"):
            sockets.listen(tmp_path / "s", *ME)
        assert sockets.answers(tmp_path / "s")


def test_a_socket_whose_queue_is_full_is_somebodys(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(0)
    clients = []
    try:
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(tmp_path / "s"))
            clients.append(client)
        assert sockets.answers(tmp_path / "s")
    finally:
        for each in (*clients, listener):
            each.close()


def test_a_file_and_a_link_are_replaced_and_the_links_target_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").write_text("gone")
    for name in ("link", "file"):
        with listening(tmp_path / name):
            assert stat.S_ISSOCK((tmp_path / name).lstat().st_mode)
    assert target.read_text() == "keep"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="is a directory"):
        sockets.listen(tmp_path, *ME)


def test_a_path_of_104_bytes_is_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(Path("x" * 104)):
        pass
    with pytest.raises(ListenError, match=r"unix socket path too long \(> 104\)"):
        sockets.listen(Path("x" * 105), *ME)


def test_only_our_own_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path):
        identity = sockets.identify(path)
    path.unlink()
    (tmp_path / "other").write_text("")
    (tmp_path / "other").rename(path)
    sockets.remove(path, identity)
    assert path.exists()
    sockets.remove(path, sockets.identify(path))
    assert not path.exists()
    sockets.remove(path, None)
    assert sockets.identify(path) is None


def test_a_socket_that_cannot_be_bound_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sockets, "chown", refuse)
    with pytest.raises(PermissionError):
        sockets.listen(tmp_path / "s", 1, 1)
