"""The differ: programs that a layer goes through, and differs in an order (DIF-019, 020, 042 to 048, DIF-070)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from conformance import clause, patience
from conformance.subjects.base import SubjectError
from conformance.suites._content import digest_of
from conformance.suites._diff import DOCKER, GZIP, SERVICE, SIMPLE, TAR, Bench, file, tar
from conformance.suites._diff_proxy import ANSWER, ID, other  # a fixture
from conformance.wire import Wire
from refimpl.api import diff_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, DeadlineExceeded, Unimplemented, Unknown
from refimpl.contract.types import Descriptor, TypedAny

IN, MID = "application/vnd.test.in", "application/vnd.test.mid"

PROGRAMS = {"disk"}
"""What a check needs whose daemon runs programs of the machine: that it lives there."""

TIMES = 3
"""Times that a program fails, for a failure that is seen some of the time."""

SLEEP = 3
"""Seconds that a slow program takes."""


def _processor(id, accepts, returns, path, *args, env=()):
    """An entry of the configuration."""
    return (
        f'[stream_processors."{id}"]\naccepts = {json.dumps([accepts])}\nreturns = {json.dumps(returns)}\n'
        f"path = {json.dumps(path)}\nargs = {json.dumps(args)}\nenv = {json.dumps(env)}\n"
    )


def _shell(script, accepts=IN, returns=TAR, id="p.shell", env=()):
    return _processor(id, accepts, returns, "sh", "-c", script, env=env)


def _outcome(bench):
    """What is said of the failure of a call; empty if it does not fail."""
    try:
        bench.apply(SIMPLE, bench.place(), IN)
    except Unknown as error:
        return str(error)
    return ""


def _mounts_of(place):
    """How often a directory is mounted anywhere in our mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    roots = [line.split()[3] for line in lines]
    return sum(root != "/" and place.path.endswith(root) for root in roots)


def _until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# ------------------------------------------------------------------------------------------------------------ programs


@clause("DIF-042", needs=PROGRAMS)
def test_programs_are_chained_with_each_other_and_the_built_in_decompressor(own):
    """Rejects: running one program only."""
    config = _processor("p.b64", IN, MID, "base64", "-d") + _processor("p.mid", MID, GZIP, "cat")
    bench = Bench.of(own(config=config))
    place = bench.place()
    answer = bench.apply(base64.b64encode(gzip.compress(SIMPLE)), place, IN)
    assert answer == Descriptor(TAR, digest_of(SIMPLE), len(SIMPLE))
    assert place.paths() == ["a"]


@clause("DIF-043", needs=PROGRAMS)
def test_a_program_gets_payload_media_type_and_environment(own, tmp_path, monkeypatch):
    """Rejects: the inner value of the payload without the message around it; an environment of the program's alone."""
    monkeypatch.setenv("CONFORM_DAEMON", "of-the-daemon")
    words, payload = tmp_path / "words", tmp_path / "payload"
    script = f"echo $STREAM_PROCESSOR_MEDIATYPE $MYENV $CONFORM_DAEMON > {words}; cat <&3 > {payload}; cat"
    bench = Bench.of(own(config=_shell(script, env=["MYENV=zz"])))
    place = bench.place()
    bench.apply(SIMPLE, place, IN, payloads={"p.shell": TypedAny("conformance.Payload", b"value")})
    assert words.read_text() == f"{IN} zz of-the-daemon\n"
    assert Any.FromString(payload.read_bytes()) == Any(type_url="conformance.Payload", value=b"value")
    assert place.paths() == ["a"]


@clause("DIF-043", needs=PROGRAMS)
def test_without_a_payload_there_is_no_descriptor_for_it(own, tmp_path):
    """Rejects: a descriptor that another program's payload, or nothing at all, can be read from."""
    note = tmp_path / "note"
    script = f"readlink /proc/self/fd/3 > {note}; cat"
    bench = Bench.of(own(config=_shell(script)))
    bench.apply(SIMPLE, bench.place(), IN, payloads={"somebody.else": TypedAny("conformance.Payload", b"value")})
    assert "pipe" not in note.read_text()


@clause("DIF-044", needs=PROGRAMS)
def test_a_program_comes_before_the_built_in_decompressor(own, tmp_path):
    """Rejects: built-in types that nobody can take over."""
    note = tmp_path / "note"
    bench = Bench.of(own(config=_shell(f"touch {note}; gzip -d", accepts=f"{DOCKER}.gzip")))
    place = bench.place()
    assert bench.apply(gzip.compress(SIMPLE), place, f"{DOCKER}.gzip").digest == digest_of(SIMPLE)
    assert (note.exists(), place.paths()) == (True, ["a"])


@clause("DIF-045", needs=PROGRAMS)
def test_a_program_that_fails_says_why(own):
    """Rejects: an empty layer where a program has failed before its first byte."""
    bench = Bench.of(own(config=_shell("echo boom >&2; exit 3")))
    # Once is enough here: whoever does not wait for the exit status (DIF-070) may miss it on a machine under load.
    outcomes = [_outcome(bench) for _ in range(TIMES)]
    assert [text for text in outcomes if "boom" in text], outcomes
    assert [text for text in outcomes if text and "boom" not in text] == []


@clause("DIF-045", needs=PROGRAMS)
@pytest.mark.parametrize("path", ["/nonexistent", "no-such-program-anywhere"])
def test_a_program_that_does_not_start_fails_the_call(own, path):
    """Rejects: taking the stream as it is where nobody has processed it."""
    bench = Bench.of(own(config=_processor("p.none", IN, TAR, path)))
    place = bench.place()
    with pytest.raises(Unknown):
        bench.apply(SIMPLE, place, IN)
    assert place.paths() == []


@clause("DIF-070", needs=PROGRAMS)
def test_a_program_that_fails_at_its_end_fails_the_call(own):
    """Rejects: the end of the stream taken for the end of the program, or an exit status that is never looked at."""
    # Not at once: who does not wait would see that some of the time.
    bench = Bench.of(own(config=_shell("cat; exec >&-; sleep 0.3; echo boom >&2; exit 3")))
    for _ in range(TIMES):
        assert "boom" in _outcome(bench)


# ------------------------------------------------------------------------------------------------------ abandoned calls


@clause("DIF-019", needs=PROGRAMS)
def test_an_abandoned_call_stops_and_its_mount_goes(own):
    """Rejects: going on in the background after the caller was told that it failed."""
    bench = Bench.of(own(config=_shell(f"sleep {SLEEP}; cat")))
    place, digest = bench.place(), bench.store(SIMPLE)
    hurried = CallContext(namespace=bench.ctx.namespace, deadline=time.monotonic() + 1)
    with pytest.raises(DeadlineExceeded):
        bench.diff.apply(hurried, Descriptor(IN, digest, len(SIMPLE)), place.mounts)
    # 1.6.20 looks up when the program's next bytes come.
    assert _until(lambda: _mounts_of(place) == 0, SLEEP + patience.SECONDS), "the mount stays"
    time.sleep(SLEEP - 2)
    assert (_mounts_of(place), place.paths()) == (0, [])


@clause("DIF-020", needs={*PROGRAMS, "kill"})
def test_mounts_of_a_killed_daemon_are_undone_at_its_next_start(own):
    """Rejects: removing the stale directory through the mount, with all that is in the tree."""
    instance = own(config=_shell("sleep 60; cat"))
    bench = Bench.of(instance)
    place, digest = bench.place({"earlier": b"1"}), bench.store(SIMPLE)

    def unpack():
        with suppress(ContainerdError):
            bench.diff.apply(bench.ctx, Descriptor(IN, digest, len(SIMPLE)), place.mounts)

    caller = threading.Thread(target=unpack, daemon=True)
    caller.start()
    assert _until(lambda: _mounts_of(place) == 1, patience.SECONDS), "the call has not come to its mount"
    instance.restart(kill=True)
    caller.join(patience.SECONDS)

    assert _mounts_of(place) == 0
    assert list((instance.root / "tmpmounts").iterdir()) == []
    assert Bench.of(instance).content.info(bench.ctx, digest).size == len(SIMPLE)
    assert (Path(place.path) / "earlier").read_bytes() == b"1"


# ------------------------------------------------------------------------------------------------ which differ does it


@pytest.fixture
def ordered(own, other):
    """Starts an instance with an order of differs: ``ordered("conform", "walking")``."""

    def start(*order):
        try:
            return own(config=other.config(*order))
        except SubjectError:
            pytest.skip("the subject takes no differ of another process, as before 2.x")

    return start


@clause("DIF-046", needs={"spawn|proxy", "mount"})
def test_a_differ_that_does_not_handle_a_layer_leaves_it_to_the_next(ordered, other):
    """Rejects: the first refusal as the last word."""
    bench = Bench.of(ordered(ID, "walking"))
    other.fails = grpc.StatusCode.UNIMPLEMENTED
    place = bench.place()
    assert bench.apply(SIMPLE, place).digest == digest_of(SIMPLE)
    assert bench.names(bench.compare([], place)) == ["a"]
    assert other.calls == ["Apply", "Diff"]


@clause("DIF-046", needs={"spawn|proxy", "mount"})
def test_any_other_answer_is_the_last_word(ordered, other):
    """Rejects: trying the next differ after an error that says something."""
    bench = Bench.of(ordered(ID, "walking"))
    place = bench.place()
    assert bench.apply(SIMPLE, place).digest == ANSWER.digest
    other.fails = grpc.StatusCode.UNKNOWN
    with pytest.raises(Unknown, match="as told"):
        bench.apply(SIMPLE, place)
    with pytest.raises(Unknown, match="as told"):
        bench.compare([], place)
    assert place.paths() == []


@clause("DIF-046", needs={"spawn|proxy", "mount"})
def test_later_differs_are_not_asked_and_the_last_refusal_is_told(ordered, other):
    """Rejects: asking them all; success where nobody has done anything."""
    bench = Bench.of(ordered("walking", ID))
    place = bench.place()
    assert bench.apply(SIMPLE, place).digest == digest_of(SIMPLE)
    assert other.calls == []
    other.fails = grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(Unimplemented):
        bench.compare([], place, media_type="foo/bar")
    assert other.calls == ["Diff"]


@clause("DIF-046")
def test_the_only_differs_refusal_is_told(diff, ctx):
    """Rejects: another kind of error for what nobody handles."""
    with pytest.raises(Unimplemented):
        diff.compare(ctx, [], [], media_type="foo/bar")


@clause("DIF-047")
def test_a_differ_of_the_order_that_is_not_there_leaves_no_service(own):
    """Rejects: passing over an unknown differ without a word."""
    wire = Wire(own(config='[plugins."io.containerd.service.v1.diff-service"]\ndefault = ["nosuch"]\n').address)
    descriptor = types_pb2.Descriptor(media_type=TAR, digest=digest_of(SIMPLE), size=len(SIMPLE))
    try:
        codes = [
            wire.call(f"{SERVICE}/Apply", pb.ApplyRequest(diff=descriptor), namespace="n").code,
            wire.call(f"{SERVICE}/Diff", pb.DiffRequest(), namespace="n").code,
            wire.call("containerd.services.version.v1.Version/Version", Empty()).code,
        ]
    finally:
        wire.close()
    assert codes == ["UNIMPLEMENTED", "UNIMPLEMENTED", "OK"]


@clause("DIF-047")
def test_an_empty_order_unpacks_nothing(own):
    """Rejects: success with a digest, where nothing was done."""
    wire = Wire(own(config='[plugins."io.containerd.service.v1.diff-service"]\ndefault = []\n').address)
    descriptor = types_pb2.Descriptor(media_type=TAR, digest=digest_of(SIMPLE), size=len(SIMPLE))
    try:
        answer = wire.call(f"{SERVICE}/Apply", pb.ApplyRequest(diff=descriptor), namespace="n")
    finally:
        wire.close()
    assert not answer.ok or answer.messages[0].applied.digest == ""


@clause("DIF-048")
def test_the_differ_tells_its_platform_and_what_it_needs(ctx, introspection):
    """Rejects: no platform, so that clients cannot choose a differ."""
    [plugin] = introspection.plugins(ctx, ["id==walking"])
    platforms = {platform for each in introspection.plugins(ctx) for platform in each.platforms}
    assert plugin.type == "io.containerd.differ.v1"
    assert plugin.init_err is None
    assert list(plugin.platforms) == list(platforms), "the daemon's one"
    assert "io.containerd.metadata.v1" in plugin.requires
