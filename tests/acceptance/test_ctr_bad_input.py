"""Bad input that ``ctr`` itself cannot send or does not reach: calls without a namespace, and configuration files."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from refimpl.api import (
    containers_v1_pb2,
    containers_v1_pb2_grpc,
    content_v1_pb2,
    content_v1_pb2_grpc,
    images_v1_pb2,
    images_v1_pb2_grpc,
    leases_v1_pb2,
    leases_v1_pb2_grpc,
    snapshots_v1_pb2,
    snapshots_v1_pb2_grpc,
)
from tests.acceptance import daemons

Metadata = tuple[tuple[str, str], ...]

SECONDS = 60.0
"""After which a call is given up."""


@pytest.mark.parametrize(
    "metadata, status, text",
    [
        ((), grpc.StatusCode.FAILED_PRECONDITION, "namespace is required"),
        ((("containerd-namespace", ""),), grpc.StatusCode.FAILED_PRECONDITION, "namespace is required"),
        ((("containerd-namespace", "../up"),), grpc.StatusCode.INVALID_ARGUMENT, 'identifier "../up" must match'),
        ((("containerd-namespace", " t"),), grpc.StatusCode.INVALID_ARGUMENT, "must match"),
    ],
    ids=["absent", "empty", "dots", "blank"],
)
def test_no_service_works_without_a_usable_namespace(
    either: daemons.Daemon, metadata: Metadata, status: grpc.StatusCode, text: str
) -> None:
    with daemons.running(either), grpc.insecure_channel(f"unix:{either.socket}") as channel:
        calls = _one_call_per_service(channel)
        answers = {name: _refusal(call, metadata) for name, call in calls.items()}
    assert {name: code for name, (code, _) in answers.items()} == dict.fromkeys(answers, status)
    assert [name for name, (_, details) in answers.items() if text not in details] == []


@pytest.mark.parametrize(
    "line",
    ["[grpc", "oom_score = 'x'", "version = 2", 'imports = ["/nonexistent/file.toml"]'],
    ids=["unclosed table", "text for a number", "the same key twice", "an import that is not there"],
)
def test_a_configuration_that_cannot_be_read_stops_the_start_and_makes_nothing(
    either: daemons.Daemon, line: str
) -> None:
    config = either.base / "config.toml"
    config.write_text(f"{line}\n{config.read_text()}")

    code = either.refuses_to_start()

    assert code == 1, either.log
    assert either.log.strip(), "it says why"
    assert not either.socket.exists()
    assert not either.root.exists(), "nothing was made before the file was read"


def test_a_configuration_file_that_is_not_there_stops_the_start(either: daemons.Daemon) -> None:
    (either.base / "config.toml").unlink()

    code = either.refuses_to_start()

    assert code == 1, either.log
    assert str(either.base / "config.toml") in either.log
    assert "no such file or directory" in either.log.lower()


@pytest.mark.parametrize(
    "extra",
    ["[nosuch]\na = 1\n", '[plugins."io.containerd.service.v1.diff-service"]\ndefalut = ["walking"]\n'],
    ids=["table", "plugin key"],
)
def test_a_key_with_a_typo_does_not_stop_the_start(either: daemons.Daemon, extra: str) -> None:
    daemons.write_config(either, extra)
    with daemons.running(either):
        assert either.answers()


def test_refimpl_warns_of_a_key_with_a_typo_by_file_line_and_name(base: Path) -> None:
    daemon = daemons.refimpl(base)
    daemons.write_config(daemon, '[plugins."io.containerd.service.v1.diff-service"]\ndefalut = ["walking"]\n')
    line = (base / "config.toml").read_text().splitlines().index('defalut = ["walking"]') + 1
    with daemons.running(daemon):
        said = [text for text in daemon.log.splitlines() if "defalut" in text]
    assert said, daemon.log
    assert f"{base / 'config.toml'}" in said[0]
    assert str(line) in said[0]


Call = Callable[[Metadata], object]


def _one_call_per_service(channel: grpc.Channel) -> dict[str, Call]:
    content = content_v1_pb2_grpc.ContentStub(channel)
    images = images_v1_pb2_grpc.ImagesStub(channel)
    containers = containers_v1_pb2_grpc.ContainersStub(channel)
    snapshots = snapshots_v1_pb2_grpc.SnapshotsStub(channel)
    leases = leases_v1_pb2_grpc.LeasesStub(channel)
    zeros = "sha256:" + "0" * 64
    stat = snapshots_v1_pb2.StatSnapshotRequest(snapshotter="overlayfs", key="x")
    return {
        "content": lambda data: content.Info(content_v1_pb2.InfoRequest(digest=zeros), metadata=data, timeout=SECONDS),
        "images": lambda data: images.Get(images_v1_pb2.GetImageRequest(name="x"), metadata=data, timeout=SECONDS),
        "containers": lambda data: containers.Get(
            containers_v1_pb2.GetContainerRequest(id="x"), metadata=data, timeout=SECONDS
        ),
        "snapshots": lambda data: snapshots.Stat(stat, metadata=data, timeout=SECONDS),
        "leases": lambda data: leases.List(leases_v1_pb2.ListRequest(), metadata=data, timeout=SECONDS),
    }


def _refusal(call: Call, metadata: Metadata) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(metadata)
    return caught.value.code(), caught.value.details() or ""
