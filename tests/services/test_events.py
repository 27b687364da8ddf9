"""The bus: who hears what, in which order, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from refimpl.api import event_types_pb2 as types
from refimpl.api import typeurl
from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import FailedPrecondition, InvalidArgument
from refimpl.contract.events import Envelope
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import TypedAny
from refimpl.services.events import Exchange
from tests.services.fakes import taken

NS = CallContext(namespace="ns")
EVENT = TypedAny("my.own/Type", b"\x01\x02")


def event(message: types.TaskStart | types.TaskExit | types.ContainerCreate | types.ContainerUpdate) -> TypedAny:
    packed = typeurl.pack(message)
    return TypedAny(packed.type_url, packed.value)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exchange(clock: FakeClock) -> Iterator[Exchange]:
    made = Exchange(clock)
    yield made
    made.close()


def test_what_is_published_arrives_untouched_with_namespace_and_time(exchange: Exchange, clock: FakeClock) -> None:
    subscription = exchange.subscribe(CallContext())
    clock.advance(1)
    exchange.publish(NS, "/a/b", EVENT)
    assert next(subscription) == Envelope(EPOCH + SECOND, "ns", "/a/b", EVENT)


def test_publishing_needs_a_valid_namespace(exchange: Exchange) -> None:
    with pytest.raises(FailedPrecondition) as none:
        exchange.publish(CallContext(), "/a", EVENT)
    assert str(none.value) == "failed publishing event: namespace is required: failed precondition"
    with pytest.raises(InvalidArgument, match="failed publishing event: namespace validation: identifier"):
        exchange.publish(CallContext(namespace="a/b"), "/a", EVENT)


GOOD_TOPICS = ["/ok", "/a/b/c", "/a_b.c-d", "/UPPER/x1", "/" + "x" * 76, "/a" * 102]
BAD_TOPICS = {
    "": 'envelope topic "": must not be empty: invalid argument',
    "/": 'envelope topic "/": must have at least one component: invalid argument',
    "noslash": "envelope topic \"noslash\": must start with '/': invalid argument",
    "//": 'envelope topic "//": failed validation on component "": identifier must not be empty: invalid argument',
    "/a/": 'envelope topic "/a/": failed validation on component "": identifier must not be empty: invalid argument',
    "/a b": 'component "a b": identifier "a b" must match',
    "/-a": 'component "-a"',
    "/a-": 'component "a-"',
    "/" + "x" * 77: "greater than maximum length",
    "/ä": "must match",
    "/tasks/?": "must match",
}


def test_a_topic_is_a_path_of_identifiers_and_a_refused_one_reaches_nobody(exchange: Exchange) -> None:
    subscription = exchange.subscribe(CallContext())
    for topic, text in BAD_TOPICS.items():
        with pytest.raises(InvalidArgument) as published:
            exchange.publish(NS, topic, EVENT)
        with pytest.raises(InvalidArgument) as forwarded:
            exchange.forward(NS, Envelope(1, "ns", topic, EVENT))
        assert text in str(published.value)
        assert str(forwarded.value) == str(published.value)
    for topic in GOOD_TOPICS:
        exchange.publish(NS, topic, EVENT)
    assert [envelope.topic for envelope in taken(subscription, len(GOOD_TOPICS))] == GOOD_TOPICS


def test_a_forwarded_envelope_keeps_its_own_time_and_namespace(exchange: Exchange) -> None:
    subscription = exchange.subscribe(CallContext())
    for ctx in (CallContext(), CallContext(namespace="other"), CallContext(namespace="a b")):
        exchange.forward(ctx, Envelope(0, "nsx", "/a/b", EVENT))
        assert next(subscription) == Envelope(0, "nsx", "/a/b", EVENT)


@pytest.mark.parametrize(
    "envelope,text",
    [
        (Envelope(1, "", "/a", EVENT), "event envelope has invalid namespace: identifier must not be empty"),
        (Envelope(1, "a b", "/a", EVENT), 'event envelope has invalid namespace: identifier "a b" must match'),
        (Envelope(ZERO_TIME, "ns", "/a", EVENT), "timestamp must be set on forwarded event"),
    ],
)
def test_an_envelope_without_a_namespace_or_a_time_is_not_forwarded(
    exchange: Exchange, envelope: Envelope, text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text):
        exchange.forward(NS, envelope)


def test_a_subscription_starts_now(exchange: Exchange) -> None:
    exchange.publish(NS, "/early", EVENT)
    subscription = exchange.subscribe(CallContext())
    exchange.publish(NS, "/late", EVENT)
    assert next(subscription).topic == "/late"


STORY = [
    ("ns", "/tasks/start", event(types.TaskStart(container_id="c1", pid=5))),
    ("other", "/tasks/exit", event(types.TaskExit(container_id="c1", id="e1", exit_status=3))),
    (
        "ns",
        "/containers/create",
        event(types.ContainerCreate(id="c2", image="img", runtime=types.ContainerCreate.Runtime(name="rt"))),
    ),
    ("ns", "/containers/update", event(types.ContainerUpdate(id="c2", labels={"a": "b", "dot.ted": "d"}))),
    ("ns", "/own", EVENT),
    ("ns", "/broken", TypedAny("containerd.events.TaskStart", b"\xff\xff")),
    ("ns", "/prefixed", TypedAny("types.containerd.io/containerd.events.TaskStart", b"\x0a\x02c1")),
]
START, EXIT, CREATE, UPDATE, OWN, BROKEN, PREFIXED = range(7)


@pytest.mark.parametrize(
    "filters,heard",
    [
        ([], range(7)),
        ([""], range(7)),
        (['topic=="/tasks/start"', 'topic=="/own"'], [START, OWN]),
        (['namespace==other,topic=="/tasks/start"', "namespace==other,topic"], [EXIT]),
        (["topic"], range(7)),
        (["nosuch"], []),
        (["timestamp==1"], []),
        (["namespace!=other"], [START, CREATE, UPDATE, OWN, BROKEN, PREFIXED]),
        (["event"], []),
        (["event.container_id==c1"], [START, EXIT]),
        (["event.id==e1"], [EXIT]),
        (["event.image==img"], [CREATE]),
        (["event.runtime.name==rt"], [CREATE]),
        (["event.runtime"], []),
        (["event.labels.a==b"], [UPDATE]),
        (["event.labels.dot.ted==d"], [UPDATE]),
        (["event.labels"], []),
        (["event.pid==5"], []),
        (["event.exit_status==3"], []),
        (["event.container_id!=c1"], [CREATE, UPDATE, OWN, BROKEN, PREFIXED]),
        (['topic~="("'], []),
        (['topic~="/tasks/.*"'], [START, EXIT]),
    ],
)
def test_filters_choose_by_topic_namespace_and_text_fields(
    exchange: Exchange, filters: list[str], heard: list[int]
) -> None:
    subscription = exchange.subscribe(CallContext(), filters)
    last = exchange.subscribe(CallContext(), ['topic=="/end"'])
    for namespace, topic, told in STORY:
        exchange.publish(CallContext(namespace=namespace), topic, told)
    exchange.publish(CallContext(namespace="end"), "/end", EVENT)
    next(last)
    expected = [STORY[index][1] for index in heard]
    found = [envelope.topic for envelope in list(subscription._queue) if envelope.namespace != "end"]
    assert found == expected


def test_a_filter_that_does_not_parse_refuses_the_subscription(exchange: Exchange) -> None:
    with pytest.raises(InvalidArgument, match="failed parsing subscription filters: filters: parse error"):
        exchange.subscribe(CallContext(), ["topic", "bad filter"])
    assert exchange._audience == ()


def test_all_subscribers_hear_one_order_and_times_never_go_back(exchange: Exchange) -> None:
    first, second = exchange.subscribe(CallContext()), exchange.subscribe(CallContext())

    def publish(number: int) -> None:
        for count in range(50):
            exchange.publish(NS, f"/ord/p{number}/n{count}", EVENT)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    heard = taken(first, 400)
    assert taken(second, 400) == heard
    assert [envelope.timestamp for envelope in heard] == sorted(envelope.timestamp for envelope in heard)
    for number in range(8):
        mine = [envelope.topic for envelope in heard if f"/p{number}/" in envelope.topic]
        assert mine == [f"/ord/p{number}/n{count}" for count in range(50)]


def test_lasting_subscribers_hear_everything_once_while_others_come_and_go(exchange: Exchange) -> None:
    lasting = [exchange.subscribe(CallContext()) for _ in range(2)]
    others = [exchange.subscribe(CallContext()) for _ in range(50)]
    for number in range(200):
        exchange.publish(NS, f"/n{number}", EVENT)
        if number % 4 == 0:
            others.pop().close()
    for subscription in lasting:
        assert [envelope.topic for envelope in taken(subscription, 200)] == [f"/n{number}" for number in range(200)]


def test_the_end_of_the_call_wakes_and_ends_a_waiting_subscription(exchange: Exchange) -> None:
    cancel = CancelToken()
    subscription = exchange.subscribe(CallContext(cancel=cancel))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, subscription)
        cancel.cancel()
        assert waiting.result(60) == []
    assert exchange._audience == ()
    exchange.publish(NS, "/after", EVENT)
    assert not subscription._queue
    assert exchange.subscribe(CallContext(cancel=cancel))._closed, "a call that is over hears nothing"


def test_closing_the_bus_sends_everybody_home(exchange: Exchange) -> None:
    subscription = exchange.subscribe(CallContext())
    started = threading.Event()

    def listen() -> list[Envelope]:
        started.set()
        return list(subscription)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(listen)
        assert started.wait(60)
        exchange.close()
        exchange.close()
        assert waiting.result(60) == []
