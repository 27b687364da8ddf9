"""The .proto files against the descriptors that the real containerd 1.6 carries inside its programs.

Go programs keep each .proto file they were built from as a gzipped descriptor; nothing is started here.
"""

import importlib
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from refimpl.api.generate import protos

LARGEST = 1 << 20
"""Bytes of gzip looked at for one descriptor: cri's, the largest, has about 20 KiB."""

PACKAGES = re.compile(r"(io\.)?containerd\..+|runtime\.v1|runtimeoptions\.v1")
"""Whose descriptors to compare; a program carries those of its libraries too, and cri's v1alpha2."""

DIFFERENT = {
    # The same bytes: 2.3 has one envelope for both services.
    "containerd.services.events.v1.ForwardRequest.envelope",
    "containerd.services.events.v1.Events.Subscribe",
    "containerd.services.events.ttrpc.v1.ForwardRequest.envelope",
    # A string in 1.6, bytes later.
    "runtime.v1.KeyValue.value",
    # Another message later; the method that answers with it is a stub in 1.6.
    "runtime.v1.ContainerEventResponse.pod_sandbox_metadata",
}
"""What differs from 1.6, on purpose."""


def carried(program: Path) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """The descriptors of containerd's own packages inside a Go program."""
    image = program.read_bytes()
    for match in re.finditer(rb"\x1f\x8b\x08", image):
        try:
            text = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(image[match.start() : match.start() + LARGEST])
            file = descriptor_pb2.FileDescriptorProto.FromString(text)
        except (zlib.error, DecodeError):
            continue  # three bytes that look like gzip, or gzip that is no descriptor
        if PACKAGES.fullmatch(file.package):
            yield file


def members(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, object]]:
    """Everything in a file that is on the wire, as full name and shape."""
    for message in file.message_type:
        yield from fields(f"{file.package}.{message.name}", message)
    for enum in file.enum_type:
        yield from values(f"{file.package}.{enum.name}", enum)
    for service in file.service:
        for method in service.method:
            shape = (method.input_type, method.output_type, method.client_streaming, method.server_streaming)
            yield f"{file.package}.{service.name}.{method.name}", shape


def fields(name: str, message: descriptor_pb2.DescriptorProto) -> Iterator[tuple[str, object]]:
    """The fields of a message and of those inside it."""
    for field in message.field:
        yield f"{name}.{field.name}", (field.number, field.type, field.label, field.type_name)
    for inner in message.nested_type:
        yield from fields(f"{name}.{inner.name}", inner)
    for enum in message.enum_type:
        yield from values(f"{name}.{enum.name}", enum)


def values(name: str, enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[tuple[str, object]]:
    """The values of an enum."""
    for value in enum.value:
        yield f"{name}.{value.name}", value.number


@pytest.mark.debian("containerd")
def test_what_the_real_daemon_speaks_is_what_we_speak() -> None:
    """Rejects: a wrong number, type, name or streaming flag anywhere; what came after 1.6 may be there as well."""
    ours: dict[str, object] = {}
    for path in protos():
        file = descriptor_pb2.FileDescriptorProto()
        importlib.import_module(f"refimpl.api.{path.stem}_pb2").DESCRIPTOR.CopyToProto(file)
        ours.update(members(file))

    program = Path(shutil.which("containerd") or "")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    if " 1.6." not in version:
        pytest.skip(f"needs containerd 1.6, installed is {version.strip()}")
    theirs = {name: shape for file in carried(program) for name, shape in members(file)}

    assert len(theirs) > 1000, "the descriptors were not found in the program"
    assert {name for name, shape in theirs.items() if ours.get(name) != shape} == DIFFERENT
