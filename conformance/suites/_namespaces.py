"""Words for the checks of namespaces: names that are nobody else's, whatever their form."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from conformance.cleanup import purge
from conformance.subjects.base import Subject
from conformance.suites._containers import Ear
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.contract.namespaces import NamespaceStore

SERVICE = "containerd.services.namespaces.v1.Namespaces"

NOBODY = CallContext()
"""A caller that sends no namespace."""

NewName = Callable[..., str]


@pytest.fixture
def name(subject: Subject, request: pytest.FixtureRequest) -> Iterator[NewName]:
    """Makes names of namespaces that do not exist yet: ``name()``, or ``name("a_{}")`` for one of a given form.

    A form without braces is the name itself.

    Whatever comes to exist under them is removed afterwards.
    """
    made: list[str] = []

    def make(form: str = "conform-{}") -> str:
        made.append(form.format(uuid.uuid4().hex[:16]))
        return made[-1]

    yield make
    left = [text for each in made for text in purge(subject, CallContext(namespace=each))]
    if left:
        request.node.user_properties.append(("conformance-left", left))


@pytest.fixture
def listen_to(ctx: CallContext, events: EventExchange) -> Iterator[Callable[[str], Ear]]:
    """Begins to listen to what is told about one namespace, in whatever namespace it is told."""
    ears: list[Ear] = []

    def begin(name: str) -> Ear:
        ears.append(Ear(events, ctx, [f'topic~="^/namespaces/",event.name=="{name}"', f'namespace=="{name}"']))
        return ears[-1]

    yield begin
    for ear in ears:
        ear.close()


def labels(namespaces: NamespaceStore, name: str) -> dict[str, str]:
    """The labels that ``get`` answers with."""
    return dict(namespaces.get(NOBODY, name).labels)


def names(namespaces: NamespaceStore) -> list[str]:
    """The names of all namespaces, in the order of the list."""
    return [namespace.name for namespace in namespaces.list(NOBODY)]
