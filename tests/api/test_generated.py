"""The generated code is what the .proto files say, and the .proto files say what is on the wire."""

import importlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import events_ttrpc_v1_pb2, events_v1_pb2, types_pb2, version_v1_pb2_grpc
from refimpl.api.generate import GRPC_SERVICES, HERE, contents, differences, main, protoc, protos

NAMES = [path.stem for path in protos()]

SERVICES = {  # A stream of requests has < in front, a stream of answers has > behind.
    "containerd.runtime.linux.shim.v1.Shim": (
        "State Create Start Delete DeleteProcess ListPids Pause Resume Checkpoint Kill Exec ResizePty CloseIO "
        "ShimInfo Update Wait"
    ),
    "containerd.runtime.sandbox.v1.Sandbox": (
        "CreateSandbox StartSandbox Platform StopSandbox WaitSandbox SandboxStatus PingSandbox "
        "ShutdownSandbox SandboxMetrics"
    ),
    "containerd.services.containers.v1.Containers": "Get List ListStream> Create Update Delete",
    "containerd.services.content.v1.Content": "Info Update List> Delete Read> Status ListStatuses <Write> Abort",
    "containerd.services.diff.v1.Diff": "Apply Diff",
    "containerd.services.events.ttrpc.v1.Events": "Forward",
    "containerd.services.events.v1.Events": "Publish Forward Subscribe>",
    "containerd.services.images.v1.Images": "Get List Create Update Delete",
    "containerd.services.introspection.v1.Introspection": "Plugins Server PluginInfo",
    "containerd.services.leases.v1.Leases": "Create Delete List AddResource DeleteResource ListResources",
    "containerd.services.mounts.v1.Mounts": "Activate Deactivate Info Update List>",
    "containerd.services.namespaces.v1.Namespaces": "Get List Create Update Delete",
    "containerd.services.sandbox.v1.Controller": "Create Start Platform Stop Wait Status Shutdown Metrics Update",
    "containerd.services.sandbox.v1.Store": "Create Update Delete List Get",
    "containerd.services.snapshots.v1.Snapshots": "Prepare View Mounts Commit Remove Stat Update List> Usage Cleanup",
    "containerd.services.streaming.v1.Streaming": "<Stream>",
    "containerd.services.tasks.v1.Tasks": (
        "Create Start Delete DeleteProcess Get List Kill Exec ResizePty CloseIO Pause Resume ListPids "
        "Checkpoint Update Metrics Wait"
    ),
    "containerd.services.transfer.v1.Transfer": "Transfer",
    "containerd.services.version.v1.Version": "Version",
    "containerd.task.v2.Task": (
        "State Create Start Delete Pids Pause Resume Checkpoint Kill Exec ResizePty CloseIO Update Wait Stats "
        "Connect Shutdown"
    ),
    "containerd.task.v3.Task": (
        "State Create Start Delete Pids Pause Resume Checkpoint Kill Exec ResizePty CloseIO Update Wait Stats "
        "Connect Shutdown"
    ),
    "runtime.v1.ImageService": "ListImages StreamImages> ImageStatus PullImage RemoveImage ImageFsInfo",
    "runtime.v1.RuntimeService": (
        "Version RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox "
        "StreamPodSandboxes> CreateContainer StartContainer StopContainer RemoveContainer ListContainers "
        "StreamContainers> ContainerStatus UpdateContainerResources ReopenContainerLog ExecSync Exec Attach "
        "PortForward ContainerStats ListContainerStats StreamContainerStats> PodSandboxStats "
        "ListPodSandboxStats StreamPodSandboxStats> UpdateRuntimeConfig Status CheckpointContainer "
        "GetContainerEvents> ListMetricDescriptors ListPodSandboxMetrics StreamPodSandboxMetrics> "
        "RuntimeConfig UpdatePodSandboxResources"
    ),
}

FIELDS = {
    "containerd.services.containers.v1.Container": (
        "id=1 labels=2 image=3 runtime=4 spec=5 snapshotter=6 snapshot_key=7 created_at=8 updated_at=9 "
        "extensions=10 sandbox=11"
    ),
    "containerd.services.containers.v1.UpdateContainerRequest": "container=1 update_mask=2",
    "containerd.services.content.v1.Info": "digest=1 size=2 created_at=3 updated_at=4 labels=5",
    "containerd.services.content.v1.Status": "started_at=1 updated_at=2 ref=3 offset=4 total=5 expected=6",
    "containerd.services.content.v1.WriteContentRequest": "action=1 ref=2 total=3 expected=4 offset=5 data=6 labels=7",
    "containerd.services.content.v1.WriteContentResponse": (
        "action=1 started_at=2 updated_at=3 offset=4 total=5 digest=6"
    ),
    "containerd.services.diff.v1.DiffResponse": "diff=3",
    "containerd.services.images.v1.Image": "name=1 labels=2 target=3 created_at=7 updated_at=8",
    "containerd.services.introspection.v1.Plugin": (
        "type=1 id=2 requires=3 platforms=4 exports=5 capabilities=6 init_err=7"
    ),
    "containerd.services.leases.v1.CreateRequest": "id=1 labels=3",
    "containerd.services.snapshots.v1.Info": "name=1 parent=2 kind=3 created_at=4 updated_at=5 labels=6",
    "containerd.services.snapshots.v1.CommitSnapshotRequest": "snapshotter=1 name=2 key=3 labels=4 parent=5",
    "containerd.services.tasks.v1.CreateTaskRequest": (
        "container_id=1 rootfs=3 stdin=4 stdout=5 stderr=6 terminal=7 checkpoint=8 options=9 runtime_path=10 "
        "task_api_address=11 task_api_version=12"
    ),
    "containerd.services.tasks.v1.ExecProcessRequest": (
        "container_id=1 stdin=2 stdout=3 stderr=4 terminal=5 spec=6 exec_id=7"
    ),
    "containerd.task.v2.CreateTaskRequest": (
        "id=1 bundle=2 rootfs=3 terminal=4 stdin=5 stdout=6 stderr=7 checkpoint=8 parent_checkpoint=9 options=10"
    ),
    "containerd.task.v2.StateResponse": (
        "id=1 bundle=2 pid=3 status=4 stdin=5 stdout=6 stderr=7 terminal=8 exit_status=9 exited_at=10 exec_id=11"
    ),
    "containerd.runtime.linux.shim.v1.CreateTaskRequest": (
        "id=1 bundle=2 runtime=3 rootfs=4 terminal=5 stdin=6 stdout=7 stderr=8 checkpoint=9 parent_checkpoint=10 "
        "options=11"
    ),
    "containerd.v1.types.Process": (
        "container_id=1 id=2 pid=3 status=4 stdin=5 stdout=6 stderr=7 terminal=8 exit_status=9 exited_at=10"
    ),
    "containerd.types.Descriptor": "media_type=1 digest=2 size=3 annotations=5",
    "containerd.types.Envelope": "timestamp=1 namespace=2 topic=3 event=4",
    "containerd.types.Mount": "type=1 source=2 target=3 options=4",
    "containerd.events.TaskDelete": "container_id=1 pid=2 exit_status=3 exited_at=4 id=5",
    "containerd.events.TaskExit": "container_id=1 id=2 pid=3 exit_status=4 exited_at=5",
    "containerd.runc.v1.Options": (
        "no_pivot_root=1 no_new_keyring=2 shim_cgroup=3 io_uid=4 io_gid=5 binary_name=6 root=7 criu_path=8 "
        "systemd_cgroup=9 criu_image_path=10 criu_work_path=11 task_api_address=12 task_api_version=13"
    ),
    "ttrpc.Request": "service=1 method=2 payload=3 timeout_nano=4 metadata=5",
    "ttrpc.Response": "status=1 payload=2",
    "runtime.v1.ImageSpec": "image=1 annotations=2 user_specified_image=18 runtime_handler=19 image_ref=20",
}


def registered(name: str) -> descriptor_pb2.FileDescriptorProto:
    """What the generated module of one .proto file tells protobuf."""
    found = descriptor_pb2.FileDescriptorProto()
    importlib.import_module(f"refimpl.api.{name}_pb2").DESCRIPTOR.CopyToProto(found)
    return found


def clear_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    """Take away what protoc adds to a descriptor and generated code leaves to the runtime."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        clear_json_names(message.nested_type)


@pytest.fixture
def compiler() -> str:
    """The version of the installed protobuf compiler."""
    tools = pytest.importorskip("grpc_tools.grpc_version", reason="grpcio-tools, of the dev extra, is not installed")
    pytest.importorskip("mypy_protobuf", reason="mypy-protobuf, of the dev extra, is not installed")
    return str(tools.VERSION)


def test_the_code_holds_what_the_proto_files_say(compiler: str, tmp_path: Path) -> None:
    """Rejects: a .proto file edited without generating again. Any version of the compiler can tell."""
    answer = tmp_path / "descriptors"
    protoc(HERE.parents[1], f"--descriptor_set_out={answer}", *(f"refimpl/api/{name}.proto" for name in NAMES))
    files = descriptor_pb2.FileDescriptorSet.FromString(answer.read_bytes()).file
    for file in files:
        clear_json_names(file.message_type)

    assert {file.name: file for file in files} == {f"refimpl/api/{name}.proto": registered(name) for name in NAMES}


def test_generating_again_changes_nothing(compiler: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rejects: generated code edited by hand. The bytes depend on the compiler: only the same version can tell."""
    made_by = version_v1_pb2_grpc.GRPC_GENERATED_VERSION
    if compiler != made_by:
        pytest.skip(f"the code was made by grpcio-tools {made_by}, installed is {compiler}")

    status = main(["--check"])

    assert (status, capsys.readouterr().out) == (0, f"{len(contents(HERE))} files are as generated\n")


def test_a_check_names_what_is_missing_left_over_and_changed() -> None:
    fresh = {"a": "1", "b": "1", "c": "1"}
    committed = {"b": "2", "c": "1", "d": "1"}

    assert differences(fresh, committed) == ["a: missing", "b: changed", "d: left over"]


def test_a_refusal_of_the_compiler_is_told(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text("message {")

    with pytest.raises(RuntimeError, match=r"bad\.proto"):
        protoc(tmp_path, f"--descriptor_set_out={tmp_path / 'out'}", "bad.proto")


@pytest.mark.parametrize("path", protos(), ids=NAMES)
def test_a_proto_file_opens_with_its_package_and_what_it_is(path: Path) -> None:
    package = registered(path.stem).package

    assert path.read_text().startswith(f"// {package}: ")


def test_every_service_has_exactly_the_methods_of_the_table() -> None:
    found = {
        f"{file.package}.{service.name}": " ".join(
            "<" * method.client_streaming + method.name + ">" * method.server_streaming for method in service.method
        )
        for file in map(registered, NAMES)
        for service in file.service
    }

    assert found == SERVICES


@pytest.mark.parametrize("message", FIELDS)
def test_a_field_has_its_number(message: str) -> None:
    for name in NAMES:
        registered(name)
    found = descriptor_pool.Default().FindMessageTypeByName(message)

    assert " ".join(f"{field.name}={field.number}" for field in found.fields) == FIELDS[message]


def test_only_services_over_grpc_have_stubs() -> None:
    with_stubs = {path.name.removesuffix("_pb2_grpc.py") for path in HERE.glob("*_pb2_grpc.py")}
    over_ttrpc = {"events_ttrpc_v1", "runtime_sandbox_v1", "shim_v1", "task_v2", "task_v3"}

    assert with_stubs == GRPC_SERVICES
    assert {name for name in NAMES if registered(name).service} == GRPC_SERVICES | over_ttrpc


def test_the_three_envelopes_have_the_same_bytes() -> None:
    """1.6 has one for each service, 2.3 one for both: a daemon of either understands a client of the other."""
    shared = types_pb2.Envelope(
        timestamp=Timestamp(seconds=1), namespace="n", topic="/t", event=Any(type_url="u", value=b"v")
    )
    wire = shared.SerializeToString()

    assert events_v1_pb2.Envelope.FromString(wire).SerializeToString() == wire
    assert events_ttrpc_v1_pb2.Envelope.FromString(wire).SerializeToString() == wire


def test_importing_the_package_loads_no_protobuf() -> None:
    program = "import refimpl.api, sys; sys.exit('google.protobuf' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
