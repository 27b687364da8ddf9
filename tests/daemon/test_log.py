"""The log, line by line (DMN-041, DMN-042)."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Iterator

import pytest

from refimpl.daemon.log import LogSettingError, configure

log = logging.getLogger("refimpl.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    logger = logging.getLogger("refimpl")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def lines(level: str = "", form: str = "", *, fields: dict[str, object] | None = None, message: str = "hello") -> str:
    out = io.StringIO()
    configure(level, form, out)
    log.info(message, extra={"fields": fields or {}})
    return out.getvalue()


def test_a_line_has_time_level_message_and_fields_by_name() -> None:
    line = lines(message='loading plugin "x"...', fields={"type": "io.x.v1", "error": "no such thing", "address": "/a"})
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)" level=info msg="loading plugin \\"x\\"\.\.\." '
        r'address=/a error="no such thing" type=io\.x\.v1\n',
        line,
    )


def test_a_plain_word_needs_no_quotes() -> None:
    assert "msg=serving... " in lines(message="serving...", fields={"address": "127.0.0.1:80"})
    assert 'address="127.0.0.1:80"' in lines(fields={"address": "127.0.0.1:80"})
    assert 'revision=""' in lines(fields={"revision": ""})


def test_several_lines_stay_one() -> None:
    assert lines(message="a\nb").count("\n") == 1


def test_json_is_an_object_for_each_line() -> None:
    logged = json.loads(lines(form="json", fields={"error": ValueError("bad")}))
    assert (logged["level"], logged["msg"], logged["error"]) == ("info", "hello", "bad")
    assert logged["time"].startswith(time.strftime("%Y-"))


def test_an_error_of_the_system_is_told_as_to_clients() -> None:
    assert 'error="/x: read-only file system"' in lines(fields={"error": OSError(30, "Read-only file system", "/x")})


@pytest.mark.parametrize("level", ["warn", "WARN", "warning", "error", "fatal", "panic"])
def test_a_higher_level_says_less(level: str) -> None:
    assert lines(level) == ""


@pytest.mark.parametrize("level", ["", "info", "Info", "debug", "trace"])
def test_info_and_lower_levels_say_it(level: str) -> None:
    assert "hello" in lines(level)


@pytest.mark.parametrize(
    "number,name",
    [(5, "trace"), (10, "debug"), (30, "warning"), (40, "error"), (50, "fatal"), (60, "panic"), (1, "trace")],
)
def test_levels_have_containerds_names(number: int, name: str) -> None:
    out = io.StringIO()
    configure("trace", stream=out)
    logging.getLogger("refimpl").setLevel(1)
    log.log(number, "x")
    assert f"level={name} " in out.getvalue()


def test_a_trace_of_ours_follows_its_line() -> None:
    for form in ("text", "json"):
        out = io.StringIO()
        configure(form=form, stream=out)
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            log.exception("oh")
        assert "ZeroDivisionError: by zero" in out.getvalue()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(LogSettingError, match='not a valid logrus Level: "loud"'):
        configure("loud")


@pytest.mark.parametrize("form", ["xml", "JSON"])
def test_an_unknown_format_is_refused(form: str) -> None:
    with pytest.raises(LogSettingError, match=f"unknown log format: {form}"):
        configure(form=form)
