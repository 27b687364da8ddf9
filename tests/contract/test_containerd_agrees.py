"""The recorded answers are still those of the installed containerd: both tables, asked of a daemon of our own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from refimpl.api import containers_v1_pb2 as messages
from refimpl.api.containers_v1_pb2_grpc import ContainersStub
from tests.acceptance.daemons import containerd, running

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd")]


class Namespace:
    """The containers of one namespace of the daemon."""

    def __init__(self, stub: ContainersStub, name: str) -> None:
        self._stub, self._metadata = stub, (("containerd-namespace", name),)

    def create(self, id: str, labels: dict[str, str], image: str = "", runtime: str = "r") -> None:
        container = messages.Container(
            id=id,
            labels=labels,
            image=image,
            runtime=messages.Container.Runtime(name=runtime),
            spec=AnyMessage(type_url="x"),
        )
        self._stub.Create(messages.CreateContainerRequest(container=container), metadata=self._metadata)

    def find(self, text: str) -> list[str] | str:
        """Ids found by a filter, or why it was refused."""
        try:
            answer = self._stub.List(messages.ListContainersRequest(filters=[text]), metadata=self._metadata)
        except grpc.RpcError as err:
            return str(err.details())
        return [container.id for container in answer.containers]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainersStub]:
    base = tmp_path_factory.mktemp("containerd")
    with running(containerd(base / "d")) as daemon, grpc.insecure_channel(f"unix://{daemon.socket}") as channel:
        yield ContainersStub(channel)


def fresh(name: str) -> str:
    """A namespace that nothing was made in: the daemon keeps what a first try has left."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def recorded(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def test_filters(stub: ContainersStub) -> None:
    table, namespace = recorded("filters.json"), Namespace(stub, fresh("filters"))
    for container in table["containers"]:
        namespace.create(container["id"], container["labels"], container["image"], container["runtime"])

    for text, answer in table["filters"]:
        found = namespace.find(text)
        if isinstance(answer, list):
            assert found == answer, text
        else:
            # A list of records wraps the parser's error once more; where that cuts a character in two we do not.
            assert isinstance(found, str), text
            assert answer is None or found == f"{answer}: invalid argument"


def test_expressions(stub: ContainersStub) -> None:
    table, namespace = recorded("expressions.json"), Namespace(stub, fresh("expressions"))
    for number, value in enumerate(table["values"]):
        namespace.create(f"v{number:03}", {"v": value})

    for expression, numbers in table["expressions"]:
        found = namespace.find(f"labels.v~={quoted(expression)}")
        assert found == [f"v{number:03}" for number in numbers], expression
