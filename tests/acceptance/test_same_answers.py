"""Odd and bad requests, to refimpl and to the real daemon: both say the same, and the same is true afterwards.

``ctr`` and ``refimpl compare`` send what makes sense; here is the rest. A method is asked with each of its fields wrong
in each way that ``odd_values`` knows, one at a time, and in twos and threes that chance chooses. Uploads break the
rules of their stream, calls are odd in their headers, and the same is asked several times at once. After each batch
everything that can be listed is compared, and so are the events.

Without more said, a sample is asked, always the same one. ``REFIMPL_ANSWERS=20`` asks everything that is odd in one
way, and of each method twenty requests that are odd in several; ``REFIMPL_ANSWERS_SEED`` has chance choose others.
A difference that is right has its reason in ``known_answers``; every other one is an error of ours.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.ttrpc.client import Client
from tests.acceptance.answers import Both, Side
from tests.acceptance.known_answers import harms, reason
from tests.acceptance.messages import placed
from tests.acceptance.odd_pair import Pair
from tests.acceptance.odd_requests import Names, Request, methods, pairs, singles
from tests.acceptance.odd_streams import oddities, together, uploads
from tests.acceptance.odd_worlds import ENDING, VICTIMS, after, looks, seeds, settled, task_ends, task_seeds

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "runc", "containerd-shim-runc-v2", "busybox")]

COUNT, SEED = int(os.environ.get("REFIMPL_ANSWERS") or "0"), os.environ.get("REFIMPL_ANSWERS_SEED", "20")

SAMPLE, COSTLY, UPLOADS, TIMES = 10, 4, 24, 4
"""Without more said: requests for a method, for one that starts shims, streams; and how often one is sent at once."""

TELLING = {"Create", "Update", "Delete", "Prepare", "View", "Commit", "Remove", "AddResource", "Abort"}
"""Methods that have events, and some that might have."""

BATCH = 25
"""Requests in one namespace, after which all that can be listed is compared and a new one is begun."""

_ELSEWHERE = {
    # Streams.
    "Content/Write",
    "Events/Subscribe",
    # What a daemon says of itself, whatever it is asked.
    "Version/Version",
    "Introspection/Server",
    "Introspection/PluginInfo",
}

TTRPC_EVENTS = "containerd.services.events.ttrpc.v1.Events"

METHODS = [name for name in methods() if name not in _ELSEWHERE]


@pytest.fixture(scope="module")
def pair(ground: Path) -> Iterator[Pair]:
    """Both daemons, running for all tests of this module."""
    made = Pair(ground / "same")
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def sides(pair: Pair) -> Iterator[Both]:
    """The two sides, for all tests of this module."""
    left, right = (Side(each.base.name, str(each.base), str(each.socket)) for each in pair.daemons)
    made = Both(left, right)
    yield made
    if pair.world:
        _end_world(pair, made)
    made.close()


@pytest.fixture
def both(pair: Pair, sides: Both) -> Iterator[Both]:
    """The same, for one test."""
    yield sides
    if sides.differences:
        # It has failed. Another one, or itself once more, begins where both are alike.
        if pair.world:
            _end_world(pair, sides)
        sides.differences.clear()


@pytest.mark.parametrize("name", METHODS)
def test_an_odd_request_is_answered_alike(name: str, pair: Pair, both: Both) -> None:
    asked = requests(name)
    if name.startswith("Tasks/"):
        ask_of_tasks(pair, both, asked)
    else:
        ask(pair, both, name, asked)
    check(both)


def test_an_odd_upload_is_answered_alike(pair: Pair, both: Both) -> None:
    ns, seen = "", 0
    for number, stream in enumerate(uploads(random.Random(f"uploads {SEED}"), COUNT * 10 or UPLOADS)):
        if number % BATCH == 0 or len(both.differences) > seen:
            # Whatever the reason of a difference was, what follows would differ as well.
            ns, seen = begun(pair, both, seeds()), len(both.differences)
        for request in stream:
            both.ask(request, ns)
    check(both)


def test_an_odd_call_is_answered_alike(pair: Pair, both: Both) -> None:
    ns = begun(pair, both, seeds())
    for request in [*oddities(), *looks()]:
        both.ask(request, ns)
    check(both)


def test_an_odd_event_of_a_shim_is_answered_alike(pair: Pair) -> None:
    """The same requests as to ``Events/Forward``, on the socket for shims."""
    heard: list[list[tuple[str, str]]] = []
    for daemon in pair.daemons:
        with Client.connect(f"unix://{daemon.socket}.ttrpc") as client:
            heard.append([forwarded(client, each) for each in requests("Events/Forward")])
    known = [r"timestamp: &types.Timestamp", r"\(MISSING\)"]
    assert [pair for pair in zip(*heard, strict=True) if pair[0] != pair[1] and not matches(known, pair[0][1])] == []


def forwarded(client: Client, request: Request) -> tuple[str, str]:
    """How a shim's event is answered: the kind of the error, or nothing, and its text."""
    assert isinstance(request.messages[0], Message)
    envelope = placed(request.messages[0], "", "ns")
    ctx = CallContext("ns", deadline=time.monotonic() + 60)
    try:
        client.call(ctx, TTRPC_EVENTS, "Forward", ForwardRequest.FromString(envelope), Empty)
    except ContainerdError as error:
        return type(error).__name__, str(error)
    return "", ""


def matches(patterns: Sequence[str], text: str) -> bool:
    """Whether one of them is found in a text."""
    return any(re.search(pattern, text) for pattern in patterns)


def test_the_same_at_once_is_answered_alike(pair: Pair, both: Both) -> None:
    """Who is first differs; that one is, and what the others hear, does not."""
    ns = begun(pair, both, seeds())
    for request in together():
        both.ask_at_once(request, ns, TIMES)
    for look in looks():
        both.ask(look, ns)
    check(both)


def test_the_same_is_told(pair: Pair, both: Both) -> None:
    """The events of the odd requests, of all services but those whose events come at their own time."""
    with both.listening() as told:
        for name in METHODS:
            service, _, method = name.partition("/")
            # NSP-009 lets one side tell what the other cannot.
            if service not in {"Namespaces", "Tasks"} and method in TELLING:
                ask(pair, both, name, requests(name)[:6])
        ns = begun(pair, both, [])
        left, right = told(ns)
    both.differences.clear()  # they are the affair of the test above
    assert left == right


def requests(name: str) -> Sequence[Request]:
    """What a method is asked, the same for the same seed."""
    names, chance = Names(), random.Random(f"{name} {SEED}")
    asked = [*singles(name, names), *pairs(name, names, chance, COUNT or SAMPLE)]
    asked = [each for each in asked if not harms(each)]
    if COUNT:
        return asked
    # The first one is good: what it does is compared as well.
    size = COSTLY if name == "Tasks/Create" else SAMPLE
    return [asked[0], *chance.sample(asked[1:], min(size, len(asked) - 1))]


def begun(pair: Pair, both: Both, made: Sequence[Request]) -> str:
    """A namespace in which nothing is but what these requests make."""
    ns = pair.namespace()
    for request in made:
        both.ask(request, ns)
    return ns


def ask(pair: Pair, both: Both, name: str, asked: Sequence[Request]) -> None:
    """Send the requests, batch by batch, each batch to a world of its own."""
    for first in range(0, len(asked), BATCH):
        ns = begun(pair, both, seeds())
        for request in asked[first : first + BATCH]:
            for victim in VICTIMS.get(name, ()):
                both.ask(victim, ns)
            both.ask(request, ns)
        for look in looks():
            both.ask(look, ns)


def ask_of_tasks(pair: Pair, both: Both, asked: Sequence[Request]) -> None:
    """The same where there are tasks: both sides are waited for, and a world lasts as long as it can."""
    for number, request in enumerate(asked):
        if number % BATCH == 0 and number:
            _end_world(pair, both)
        if not pair.world:
            pair.world = begun(pair, both, task_seeds())
        left, _ = both.ask(request, pair.world)
        for following in after(request) if left.code == "OK" else ():
            both.ask(following, pair.world)
        settled(both, pair.world)
    if asked[0].method in ENDING:
        _end_world(pair, both)


def _end_world(pair: Pair, both: Both) -> None:
    for request in task_ends():
        both.ask(request, pair.world)
    pair.world = ""


def check(both: Both) -> None:
    """Fail with the differences that nobody has explained."""
    unknown = [each for each in both.differences if not reason(each)]
    if not unknown:
        both.differences.clear()
    # Many a cause shows in many requests: one of each kind is enough to read.
    shown = {each.kind(): each for each in reversed(unknown)}
    text = "\n\n".join(str(each) for each in reversed(shown.values()))
    if unknown:
        pytest.fail(f"{len(unknown)} answers differ, {len(shown)} of them shown:\n\n{text}", pytrace=False)
