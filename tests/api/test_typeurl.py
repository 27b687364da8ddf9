"""Any values: their type URLs, and the JSON of 1.6's ``ctr events``.

The expected lines were printed by the real ``ctr events`` for the same messages, published to a real daemon.
"""

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import cgroups_v2_pb2, event_types_pb2, images_v1_pb2, runc_v1_pb2, types_pb2
from refimpl.api.event_types_pb2 import (
    ContainerCreate,
    ContainerUpdate,
    TaskCreate,
    TaskDelete,
    TaskExit,
    TaskIO,
    TaskOOM,
)
from refimpl.api.typeurl import (
    EVENTS,
    MESSAGES,
    OCI_SPEC,
    MalformedValue,
    UnknownType,
    pack,
    pack_json,
    to_json,
    type_url,
    unpack,
    unpack_json,
)

RUNC_OPTIONS = Any(type_url="containerd.runc.v1.Options", value=b"2\x04runc")

PRINTED_BY_CTR: list[tuple[Message, str]] = [
    (
        ContainerCreate(id="a", image="b", runtime=ContainerCreate.Runtime(name="r", options=RUNC_OPTIONS)),
        (
            '{"id":"a","image":"b","runtime":{"name":"r","options":'
            '{"type_url":"containerd.runc.v1.Options","value":"MgRydW5j"}}}'
        ),
    ),
    (ContainerCreate(id="a", runtime=ContainerCreate.Runtime()), '{"id":"a","runtime":{}}'),
    (ContainerCreate(), "{}"),
    (
        ContainerUpdate(
            id='<a&b>\u2028\x01\x7fé"\\\n\t\r\x08\x0c', labels={"z": "1", "a": "", "é": "2", "B": "3"}, snapshot_key="k"
        ),
        r'{"id":"\u003ca\u0026b\u003e\u2028\u0001' + "\x7fé" + r'\"\\\n\t\r\u0008\u000c",'
        '"labels":{"B":"3","a":"","z":"1","é":"2"},"snapshot_key":"k"}',
    ),
    (
        TaskCreate(
            container_id="a",
            bundle="b",
            rootfs=[types_pb2.Mount(type="bind", source="/x", options=["ro", "rbind"]), types_pb2.Mount()],
            io=TaskIO(stdout="o", terminal=True),
            checkpoint="c",
            pid=7,
        ),
        (
            '{"container_id":"a","bundle":"b","rootfs":[{"type":"bind","source":"/x","options":["ro","rbind"]},{}],'
            '"io":{"stdout":"o","terminal":true},"checkpoint":"c","pid":7}'
        ),
    ),
    (TaskCreate(io=TaskIO()), '{"io":{}}'),
    (
        TaskExit(
            container_id="a", id="e", pid=5, exit_status=3, exited_at=Timestamp(seconds=1700000000, nanos=120000000)
        ),
        '{"container_id":"a","id":"e","pid":5,"exit_status":3,"exited_at":"2023-11-14T22:13:20.12Z"}',
    ),
    (TaskExit(exited_at=Timestamp(nanos=1)), '{"exited_at":"1970-01-01T00:00:00.000000001Z"}'),
    (TaskExit(exited_at=Timestamp(seconds=1700000000)), '{"exited_at":"2023-11-14T22:13:20Z"}'),
    (TaskExit(exited_at=Timestamp(seconds=-62135596800)), '{"exited_at":"0001-01-01T00:00:00Z"}'),
    (TaskExit(), '{"exited_at":"0001-01-01T00:00:00Z"}'),
    (
        TaskDelete(container_id="a", exited_at=Timestamp(seconds=1700000000, nanos=1000), id="e"),
        '{"container_id":"a","exited_at":"2023-11-14T22:13:20.000001Z","id":"e"}',
    ),
    (images_v1_pb2.ImageCreate(name="n", labels={"a": "b"}), '{"name":"n","labels":{"a":"b"}}'),
    (runc_v1_pb2.Options(no_pivot_root=True, io_uid=3), '{"no_pivot_root":true,"io_uid":3}'),
]


@pytest.mark.parametrize("message, line", PRINTED_BY_CTR)
def test_an_event_is_printed_as_the_real_ctr_prints_it(message: Message, line: str) -> None:
    assert to_json(pack(message)) == line


def test_a_64_bit_number_is_printed_in_full() -> None:
    assert (
        to_json(pack(event_types_pb2.ContentCreate(digest="d", size=2**53 + 1)))
        == '{"digest":"d","size":9007199254740993}'
    )


def test_a_whole_float_is_printed_without_a_fraction() -> None:
    metrics = cgroups_v2_pb2.Metrics(cpu=cgroups_v2_pb2.CPUStat())
    metrics.cpu.psi.some.avg10 = 2.0
    metrics.cpu.psi.some.avg60 = 0.25

    assert to_json(pack(metrics)) == '{"cpu":{"psi":{"some":{"avg10":2,"avg60":0.25}}}}'


@pytest.mark.parametrize("text", ["\\b", "\\\\f", "\\<", "<\\", "\\\n", "a\\u0008"])
def test_an_escaped_backslash_does_not_change_what_follows_it(text: str) -> None:
    packed = pack_json(OCI_SPEC, {"args": [text]})

    assert unpack_json(packed) == {"args": [text]}


def test_a_type_url_is_the_bare_full_name() -> None:
    packed = pack(TaskOOM(container_id="c"))

    assert packed.type_url == type_url(TaskOOM) == "containerd.events.TaskOOM"
    assert packed.value == b"\n\x01c"


def test_every_message_in_the_registry_comes_back_as_its_own_type() -> None:
    assert {url: type_url(unpack(pack(message()))) for url, message in MESSAGES.items()} == {
        url: url for url in MESSAGES
    }


def test_every_message_of_the_events_package_is_an_event_or_a_part_of_one() -> None:
    """Rejects: an event added to the .proto file and forgotten in the registry."""
    package = event_types_pb2.DESCRIPTOR.package
    declared = {f"{package}.{name}" for name in event_types_pb2.DESCRIPTOR.message_types_by_name}

    assert declared - EVENTS.keys() == {"containerd.events.TaskIO"}


def test_the_events_about_images_are_in_the_package_of_their_service() -> None:
    assert {url for url in EVENTS if not url.startswith("containerd.events.")} == {
        "containerd.services.images.v1.ImageCreate",
        "containerd.services.images.v1.ImageDelete",
        "containerd.services.images.v1.ImageUpdate",
    }


@pytest.mark.parametrize(
    "url",
    [
        "my/Own",
        "",
        "types.containerd.io/containerd.events.TaskOOM",
        "type.googleapis.com/containerd.events.TaskOOM",
        "containerd.events.TaskIO",
    ],
)
def test_a_type_that_is_not_registered_under_exactly_this_name_is_unknown(url: str) -> None:
    with pytest.raises(UnknownType) as caught:
        to_json(Any(type_url=url, value=b"\n\x01q"))

    assert caught.value.type_url == url


@pytest.mark.parametrize(
    "packed",
    [
        Any(type_url="containerd.events.TaskStart", value=b"\xff\xff"),
        Any(type_url=OCI_SPEC, value=b"{"),
        Any(type_url=OCI_SPEC, value=b"\xff"),
        pack(TaskExit(exited_at=Timestamp(seconds=-62135596801))),
        pack(TaskExit(exited_at=Timestamp(seconds=253402300800))),
        pack(TaskExit(exited_at=Timestamp(nanos=2_000_000_000))),
    ],
)
def test_a_value_that_is_not_of_its_type_is_malformed(packed: Any) -> None:
    with pytest.raises(MalformedValue) as caught:
        to_json(packed)

    assert caught.value.type_url == packed.type_url


def test_a_spec_is_json_under_its_own_url() -> None:
    packed = pack_json(OCI_SPEC, {"ociVersion": "1.0.2"})

    assert packed == Any(
        type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b'{"ociVersion":"1.0.2"}'
    )
    assert unpack_json(packed) == {"ociVersion": "1.0.2"}
    assert to_json(packed) == '{"ociVersion":"1.0.2"}'


def test_equal_messages_with_maps_pack_to_equal_bytes() -> None:
    one = images_v1_pb2.ImageCreate(labels={"a": "1", "b": "2"})
    other = images_v1_pb2.ImageCreate(labels={"b": "2", "a": "1"})

    assert pack(one) == pack(other)


def test_a_number_that_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack_json(OCI_SPEC, {"limit": float("nan")})
