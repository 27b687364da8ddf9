"""The one table of error kinds and codes, both ways."""

from __future__ import annotations

import errno

import grpc
import pytest

from refimpl.api import status
from refimpl.contract import errors


def test_every_kind_has_a_code_of_its_own_and_finds_back() -> None:
    kinds = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.ContainerdError) and each is not errors.ContainerdError
    }
    assert {kind for kind, _ in status.CODES} == kinds
    for kind, code in status.CODES:
        assert status.code_of(kind("x")) == code
        assert type(status.error_from(code, "x")) is kind


def test_codes_are_those_of_grpc() -> None:
    numbers = {each.name.replace("_", "").lower(): each.value[0] for each in grpc.StatusCode}
    for kind, code in status.CODES:
        name = kind.__name__.lower().replace("canceled", "cancelled")
        assert numbers[name] == code


def test_what_has_no_kind_is_unknown() -> None:
    assert status.code_of(RuntimeError("boom")) == status.UNKNOWN
    assert isinstance(status.error_from(15, "lost"), errors.Unknown)
    assert isinstance(status.error_from(99, "?"), errors.Unknown)


@pytest.mark.parametrize(
    "code,text,shown",
    [
        (5, "x: not found", "x: not found"),
        (5, "not found", "not found"),
        (5, "msg", "msg: not found"),
        (13, "msg", "msg: internal"),
        (2, "raw", "raw: unknown"),
        (1, "context canceled", "context canceled"),
    ],
)
def test_a_kind_is_the_last_word_exactly_once(code: int, text: str, shown: str) -> None:
    error = status.error_from(code, text)
    assert str(error) == shown
    assert str(status.error_from(code, str(error))) == shown, "also after another hop"


def test_errors_of_the_system_read_as_gos_do() -> None:
    assert status.text_of(FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/x")) == (
        "/proc/x: no such file or directory"
    )
    assert status.text_of(OSError(errno.EROFS, "Read-only file system")) == "read-only file system"
    assert status.text_of(errors.NotFound("image x")) == "image x: not found"
    assert status.text_of(KeyError()) == "KeyError"
