"""Programs as stream processors: what they are given, how they are chained, and how they fail (DIF-042 to DIF-045)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from refimpl.archive.media_types import TAR, TAR_GZIP, ProcessorFailed, plain_layer
from refimpl.backends.real.differ_processors import MEDIA_TYPE, Program
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, DeadlineExceeded, Unknown
from refimpl.contract.types import TypedAny
from refimpl.kernel.config import StreamProcessor
from tests.archive.archives import archive, file
from tests.backends.descriptors import descriptors
from tests.backends.real.runtime.worlds import runs, until
from tests.backends.real.worlds import bind, world

IN, MID = "application/vnd.test.in", "application/vnd.test.mid"
CTX = CallContext()


def program(script: str, accepts: str = IN, returns: str = TAR, **more: list[str]) -> Program:
    return Program("p", StreamProcessor([accepts], returns, "sh", ["-c", script], **more))


def cut(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def through(one: Program, data: bytes, payload: TypedAny | None = None, ctx: CallContext = CTX) -> bytes:
    stream = one.process(ctx, one.accepts[0], cut(data), payload)
    try:
        return b"".join(stream)
    finally:
        stream.close()


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 5_000_000])
def test_the_stream_goes_in_and_comes_out_whole(size: int) -> None:
    data = os.urandom(size)
    assert through(program("cat"), data) == data


def test_a_program_that_reads_nothing_may_write() -> None:
    assert through(program("exec <&-; echo hi"), bytes(1_000_000)) == b"hi\n"


def test_the_payload_is_on_descriptor_3_as_an_any() -> None:
    value = os.urandom(300_000)
    encoded = through(program("cat <&3"), b"", TypedAny("conformance.Test", value))
    assert Any.FromString(encoded) == Any(type_url="conformance.Test", value=value)


def test_without_a_payload_there_is_no_descriptor_3() -> None:
    assert through(program("if [ -e /proc/self/fd/3 ]; then echo there; else echo none; fi"), b"") == b"none\n"


def test_the_environment_is_the_daemons_with_the_entrys_and_the_media_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_DAEMON", "d")
    monkeypatch.setenv("OVERRIDDEN", "d")
    script = f"echo $OF_THE_DAEMON $OVERRIDDEN ${MEDIA_TYPE}"
    assert through(program(script, env=["OVERRIDDEN=e", "NOISE"]), b"") == f"d e {IN}\n".encode()


def test_programs_feed_each_other_and_the_built_in_decompressor() -> None:
    data = b"layer" * 50_000
    first = Program("first", StreamProcessor([IN], MID, "base64", ["-d"]))
    second = Program("second", StreamProcessor([MID], TAR_GZIP, "cat"))
    packed = base64.b64encode(gzip.compress(data))
    with plain_layer(CTX, IN, cut(packed), [first, second]) as chunks:
        assert b"".join(chunks) == data


@pytest.mark.parametrize(
    "script,text", [("echo boom >&2; exit 3", "boom\n"), ("exit 3", "stream processor p: exit status 3")]
)
def test_a_bad_end_is_told_in_the_programs_words(script: str, text: str) -> None:
    with pytest.raises(ProcessorFailed) as error:
        through(program(script), b"")
    assert str(error.value) == text


def test_a_bad_end_counts_also_after_a_whole_stream() -> None:
    stream = program("cat; echo boom >&2; exit 3").process(CTX, IN, cut(b"data"), None)
    assert next(stream) == b"data"
    with pytest.raises(ProcessorFailed, match="boom"):
        next(stream)
    stream.close()


def test_a_program_that_is_killed_is_told() -> None:
    with pytest.raises(ProcessorFailed, match="stream processor p: signal: killed"):
        through(program("kill -9 $$"), b"")


def test_much_said_on_standard_error_blocks_nobody() -> None:
    with pytest.raises(ProcessorFailed) as error:
        through(program("head -c 3000000 /dev/zero | tr '\\0' e >&2; cat; exit 1"), bytes(1_000_000))
    assert set(str(error.value)) == {"e"}
    assert len(str(error.value)) < 100_000, "what is told fits into an answer"


@pytest.mark.parametrize(
    "path,text",
    [
        ("/nonexistent", "fork/exec /nonexistent: no such file or directory"),
        ("/etc/passwd", "fork/exec /etc/passwd: permission denied"),
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
    ],
)
def test_a_program_that_does_not_start_is_told_before_anything_is_read(path: str, text: str) -> None:
    unread = iter([b"never"])
    with (
        pytest.raises(Unknown) as error,
        plain_layer(CTX, IN, unread, [Program("p", StreamProcessor([IN], TAR, path))]),
    ):
        pass
    assert str(error.value) == f"failed to get stream processor for {IN}: {text}"
    assert next(unread) == b"never"


def test_descriptors_and_processes_are_gone_afterwards() -> None:
    def state() -> set[str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {*children, *descriptors()}

    through(program("cat"), b"x", TypedAny("t", b"v"))
    before = state()
    for script in ("cat", "exit 1", "sleep 1000", "echo; sleep 1000"):
        stream = program(script).process(CTX, IN, cut(b"x"), TypedAny("t", b"v"))
        stream.close()
        stream.close()
    with pytest.raises(Unknown):
        through(Program("p", StreamProcessor([IN], TAR, "/nonexistent")), b"x")
    # What other tests have left may go meanwhile.
    assert state() - before == set()


def test_what_a_program_has_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    stream = program(f"sleep 1000 & echo $! > {note}; echo; wait").process(CTX, IN, cut(b""), None)
    next(stream)
    stream.close()
    pid = int(note.read_text())
    until(lambda: not runs(pid), "the grandchild still runs")


def test_nobody_waits_for_a_program_longer_than_the_caller_does() -> None:
    cancel = CancelToken()
    waiting = program("sleep 1000").process(CallContext(cancel=cancel), IN, cut(b""), None)
    cancel.cancel()
    with pytest.raises(Canceled):
        next(waiting)
    waiting.close()
    with pytest.raises(DeadlineExceeded):
        through(program("exec >&-; sleep 1000"), b"", ctx=CallContext(deadline=time.monotonic() + 0.1))


def test_an_input_that_fails_ends_the_program() -> None:
    def damaged() -> Iterator[bytes]:
        yield b"some"
        raise Unknown("damaged")

    stream = program("cat").process(CTX, IN, damaged(), None)
    with pytest.raises(Unknown, match="damaged"):
        b"".join(stream)
    stream.close()


@pytest.mark.root
def test_a_failure_is_the_processors_and_not_the_mounts(tmp_path: Path) -> None:
    entry = StreamProcessor([IN], TAR, "sh", ["-c", "cat; echo boom >&2; exit 3"])
    layer = archive(file("f"))
    (tmp_path / "target").mkdir()
    with world(tmp_path, {"p": entry}) as real, pytest.raises(Unknown) as error:
        real.apply(layer, bind(tmp_path / "target"), IN)
    assert str(error.value) == "boom\n"


@pytest.mark.root
def test_the_digest_is_that_of_what_comes_out_last(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    layer = archive(file("f"))
    with world(tmp_path, {"p": StreamProcessor([IN], TAR, "base64", ["-d"])}) as real:
        answer = real.apply(base64.b64encode(layer), bind(tmp_path / "target"), IN)
    assert answer.digest == f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert (tmp_path / "target/f").read_bytes() == b"x"
