"""The diff service: whose answer counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound, Unavailable, Unimplemented
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor
from refimpl.kernel import InitContext, Kernel, Plugin, Registration
from refimpl.services import diff
from refimpl.services.diff import DiffService
from refimpl.services.plugin_types import DIFFER
from tests.services.fakes import Store

CTX = CallContext(namespace="ns")
LAYER = Descriptor("type", "sha256:x", 1)
MOUNTS = [Mount("bind", "/a")]

DECLINES = Unimplemented("no")


def both(service: DiffService) -> list[Callable[[], Descriptor]]:
    return [lambda: service.apply(CTX, LAYER, MOUNTS), lambda: service.compare(CTX, MOUNTS, MOUNTS, ref="r")]


def test_a_differ_that_declines_passes_the_call_on() -> None:
    first, second = Store(apply=DECLINES, compare=DECLINES), Store(apply=LAYER, compare=LAYER)
    for call in both(DiffService([first, second])):
        assert call() == LAYER
    assert first.calls == second.calls


@pytest.mark.parametrize("error", [Unavailable("busy"), OSError("disk")])
def test_any_other_failure_is_final(error: Exception) -> None:
    first, second = Store(apply=error, compare=error), Store(apply=LAYER, compare=LAYER)
    for call in both(DiffService([first, second])):
        with pytest.raises(type(error)):
            call()
    assert second.calls == []


def test_when_all_decline_the_last_one_speaks() -> None:
    for call in both(DiffService([Store(apply=DECLINES, compare=DECLINES), Store(apply=DECLINES, compare=DECLINES)])):
        with pytest.raises(Unimplemented):
            call()


def booted(order: list[str], *differs: Registration) -> Plugin:
    registration = Registration(
        "io.containerd.service.v1",
        "diff-service",
        init=lambda ic: diff.init(_with(ic, order)),
        requires=(DIFFER,),
    )
    kernel = Kernel([*differs, registration], root=Path("/nowhere"), state=Path("/nowhere"))
    return kernel.boot()["io.containerd.service.v1.diff-service"]


def _with(ic: InitContext, order: list[str]) -> InitContext:
    ic.config = diff.Config(default=order)
    return ic


def refusing(_ic: InitContext) -> object:
    raise Unavailable("no such disk")


WORKING = Registration(DIFFER, "working", init=lambda _: Store(apply=LAYER))
BROKEN = Registration(DIFFER, "broken", init=refusing)


@pytest.mark.parametrize(
    "order,error",
    [
        (["nosuch"], NotFound("needed differ not loaded: nosuch")),
        (["working", "broken"], Unavailable("no such disk")),
        ([], InvalidArgument("no differ is named in the order")),
    ],
)
def test_an_order_that_cannot_be_served_stops_the_service(order: list[str], error: ContainerdError) -> None:
    plugin = booted(order, WORKING, BROKEN)
    assert (type(plugin.error), str(plugin.error)) == (type(error), str(error))


def test_differs_that_are_not_named_do_not_matter() -> None:
    assert booted(["working"], BROKEN, WORKING).error is None


def test_walking_is_the_default() -> None:
    assert diff.Config().default == ["walking"]
