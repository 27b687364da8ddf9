"""Introspection: the list as of the call, and a UUID that is kept and checked."""

from __future__ import annotations

import os
import re
import stat
import uuid
from pathlib import Path

import pytest

from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.introspection import Introspection, PluginError, PluginInfo
from refimpl.contract.types import Platform
from refimpl.kernel import InitContext, Kernel, Plugin, Registration, SkipPlugin
from refimpl.services import introspection
from refimpl.services.introspection import IdentityFile, IdentityInMemory, IntrospectionService

CTX = CallContext()


def nothing(_ic: InitContext) -> object:
    return object()


PLUGINS = [
    Plugin(
        Registration("io.a", "one", init=nothing, requires=("io.c", "io.b")),
        exports={"root": "/r"},
        platforms=[Platform("linux", "amd64")],
        capabilities=["able"],
    ),
    Plugin(Registration("io.a", "two", init=nothing), error=SkipPlugin("no disk")),
    Plugin(Registration("io.b", "one", init=nothing), error=InvalidArgument("bad key"), exports={"path": "/p"}),
    Plugin(Registration("io.b", "two", init=nothing), error=RuntimeError("boom")),
]
SERVICE = IntrospectionService(lambda: PLUGINS, IdentityInMemory())


def test_plugins_are_described_as_declared_with_what_they_tell_and_why_they_failed() -> None:
    assert SERVICE.plugins(CTX) == [
        PluginInfo("io.a", "one", ("io.c", "io.b"), (Platform("linux", "amd64"),), {"root": "/r"}, ("able",)),
        PluginInfo("io.a", "two", init_err=PluginError(2, "no disk: skip plugin")),
        PluginInfo("io.b", "one", exports={"path": "/p"}, init_err=PluginError(3, "bad key: invalid argument")),
        PluginInfo("io.b", "two", init_err=PluginError(2, "boom")),
    ]


@pytest.mark.parametrize(
    "filters,count",
    [
        ([], 4),
        ([""], 4),
        (["id==one"], 2),
        (["type==io.a,id==one"], 1),
        (["type==io.a", "id==two"], 3),
        (["id.x==one"], 2),
        (["ID==one"], 0),
        (["platforms"], 0),
        (["requires!=x"], 4),
        (["type~=^io"], 4),
    ],
)
def test_filters_know_type_and_id_alone(filters: list[str], count: int) -> None:
    assert len(SERVICE.plugins(CTX, filters)) == count


def test_a_filter_that_does_not_parse_is_refused_although_another_one_is_fine() -> None:
    with pytest.raises(InvalidArgument, match="filters: parse error"):
        SERVICE.plugins(CTX, ["id==one", "id=two"])


def test_the_list_holds_plugins_that_came_after_the_service() -> None:
    def init(ic: InitContext) -> IntrospectionService:
        made = IntrospectionService(ic.plugins, IdentityInMemory())
        assert made.plugins(CTX) == []
        return made

    late = Registration("io.z", "late", init=lambda _: object())
    kernel = Kernel([Registration("io.a", "service", init=init), late], root=Path("/nowhere"), state=Path("/nowhere"))
    service = kernel.boot()["io.a.service"].instance()
    assert isinstance(service, IntrospectionService)
    assert [info.uri for info in service.plugins(CTX)] == ["io.a.service", "io.z.late"]


def booted(root: Path, backend: str) -> Introspection:
    kernel = Kernel(introspection.refimpl_registrations(), root=root, state=root, backends=backend)
    service = kernel.boot()["io.containerd.service.v1.introspection-service"].instance()
    assert isinstance(service, IntrospectionService)
    return service


def test_the_uuid_is_made_by_the_first_call_and_kept_in_the_fronts_directory(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        first = booted(tmp_path, "real")
        assert list(tmp_path.iterdir()) == []
        drawn = first.server(CTX).uuid
    finally:
        os.umask(before)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", drawn)
    file = tmp_path / "io.containerd.grpc.v1.introspection" / "uuid"
    assert file.read_text() == drawn
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert first.server(CTX).uuid == drawn == booted(tmp_path, "real").server(CTX).uuid
    file.unlink()
    assert first.server(CTX).uuid not in {drawn, ""}


def test_a_fake_daemon_keeps_its_uuid_in_memory(tmp_path: Path) -> None:
    one, other = booted(tmp_path, "fake"), booted(tmp_path, "fake")
    assert one.server(CTX).uuid == one.server(CTX).uuid != other.server(CTX).uuid
    assert list(tmp_path.iterdir()) == []


CANONICAL = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    "text", [CANONICAL, CANONICAL.upper(), CANONICAL.replace("-", ""), f"{{{CANONICAL}}}", f"urn:uuid:{CANONICAL}"]
)
def test_a_uuid_in_any_usual_spelling_is_answered_as_it_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "uuid").write_text(text)
    assert IdentityFile(tmp_path / "uuid")() == text
    assert str(uuid.UUID(text)) == CANONICAL


@pytest.mark.parametrize(
    "text,complaint",
    [
        ("garbage", "invalid UUID length: 7"),
        (CANONICAL + "\n", "invalid UUID length: 37"),
        ("", "invalid UUID length: 0"),
        (CANONICAL.replace("-", "_"), "invalid UUID format"),
        ("x" + CANONICAL[1:], "invalid UUID format"),
        ("x" * 32, "invalid UUID format"),
        ("xyz:uuid:" + CANONICAL, 'invalid urn prefix: "xyz:uuid:"'),
    ],
)
def test_what_is_no_uuid_is_noticed_at_each_call(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "uuid").write_text(text)
    with pytest.raises(Unknown) as raised:
        IdentityFile(tmp_path / "uuid")()
    assert str(raised.value) == complaint


def test_a_directory_in_the_place_of_the_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        IdentityFile(tmp_path)()
