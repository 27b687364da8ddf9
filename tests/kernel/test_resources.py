"""What plugins ask for by class."""

from __future__ import annotations

import threading

import pytest

from refimpl.contract.times import Clock, SystemClock
from refimpl.kernel import InitContext, Resource, Resources, SkipPlugin
from refimpl.kernel.backends import BackendPolicy
from tests.kernel.plugins import kernel, plugin


class Host:
    """Something that a plugin needs."""

    def __init__(self, world: str = "") -> None:
        self.world = world


def offer(world: str) -> Resource:
    return Resource(Host, lambda _: Host(world), backend=world)


def test_what_is_given_wins_over_offers() -> None:
    mine = Host("mine")
    assert Resources({Host: mine}, [offer("fake")]).get(Host) is mine


def test_a_resource_is_made_once() -> None:
    resources = Resources({}, [offer("fake")])
    assert resources.get(Host) is resources.get(Host)


def test_two_kernels_share_nothing() -> None:
    offers = [offer("fake")]
    assert Resources({}, offers).get(Host) is not Resources({}, offers).get(Host)


def test_the_policy_chooses_the_world() -> None:
    offers = [offer("fake"), offer("real")]
    assert Resources({}, offers, BackendPolicy("fake")).get(Host).world == "fake"
    assert Resources({}, offers, BackendPolicy("real")).get(Host, backend="fake").world == "fake"
    assert Resources({}, offers, BackendPolicy("real", {"A.a": "fake"})).get(Host, uri="A.a").world == "fake"


def test_a_resource_may_ask_for_another() -> None:
    class Guest:
        def __init__(self, host: Host) -> None:
            self.host = host

    resources = Resources({}, [offer("fake"), Resource(Guest, lambda r: Guest(r.get(Host)), backend="fake")])
    assert resources.get(Guest).host is resources.get(Host)


def test_what_nobody_provides_skips_the_plugin_that_asks() -> None:
    def init(ic: InitContext) -> object:
        return ic.resource(Host)

    listed = kernel(plugin("A.a", init=init), backends="real").boot()["A.a"]
    assert str(listed.error) == "no Host is provided by the real backends: skip plugin"


def test_the_clock_of_the_kernel_is_a_resource() -> None:
    clock = SystemClock()
    booted = kernel(plugin("A.a", init=lambda ic: ic.resource(Clock)), clock=clock).boot()  # type: ignore[type-abstract]
    assert booted.get("A") is clock


def test_many_threads_get_one_resource() -> None:
    resources = Resources({}, [offer("fake")])
    got: list[Host] = []
    threads = [threading.Thread(target=lambda: got.append(resources.get(Host))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({id(host) for host in got}) == 1


def test_asking_without_offers_raises_a_skip() -> None:
    with pytest.raises(SkipPlugin):
        Resources({}).get(Host)
