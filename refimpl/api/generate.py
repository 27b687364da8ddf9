"""``python -m refimpl.api.generate``: makes the code that stands beside the .proto files.

Each ``X.proto`` gives ``X_pb2.py`` and ``X_pb2.pyi``; a service spoken over gRPC also gives ``X_pb2_grpc.py`` and
``X_pb2_grpc.pyi``. Services spoken over ttrpc get no stubs: ``refimpl`` reads their methods from the descriptors.

With ``--check`` nothing is written; the command says what differs and exits with 1. It needs ``grpcio-tools`` and
``mypy-protobuf`` (the dev extra). What they write depends on their version, so a change of version changes every file.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import google.rpc.status_pb2

HERE = Path(__file__).parent
"""The directory of the .proto files and of what is generated."""

GRPC_SERVICES = frozenset(
    {
        "containers_v1",
        "content_v1",
        "cri_v1",
        "diff_v1",
        "events_v1",
        "images_v1",
        "introspection_v1",
        "leases_v1",
        "mounts_v1",
        "namespaces_v1",
        "sandbox_v1",
        "snapshots_v1",
        "streaming_v1",
        "tasks_v1",
        "transfer_v1",
        "version_v1",
    }
)
"""The files whose services are spoken over gRPC; the others hold messages only, or services spoken over ttrpc."""

GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
"""Which files of ``HERE`` belong to the generator."""

# Servicers may leave methods out (they answer UNIMPLEMENTED, as 1.6 does for what came later), so the typed ones are
# concrete; and refimpl only uses grpcio's synchronous half.
_TYPED_STUBS = "generate_concrete_servicer_stubs,only_sync,quiet"


def protos() -> list[Path]:
    """The .proto files, in order of their names."""
    return sorted(HERE.glob("*.proto"))


def protoc(root: Path, *arguments: str) -> None:
    """Run the protobuf compiler of ``grpcio-tools`` with the include paths of this project.

    Args:
        root: The directory that the names of .proto files are relative to.
        *arguments: More arguments: outputs, and .proto files relative to ``root``.

    Raises:
        RuntimeError: The compiler is not installed, or refused.
    """
    googleapis = Path(google.rpc.status_pb2.__file__).parents[2]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"-I{googleapis}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"protoc failed with status {done.returncode}: {done.stderr.strip()}")


def generate(target: Path) -> None:
    """Write everything that is generated into ``target``/refimpl/api.

    Raises:
        RuntimeError: A tool is missing or refused a file.
    """
    root = HERE.parents[1]
    names = [path.stem for path in protos()]
    scripts = sysconfig.get_path("scripts")
    protoc(
        root,
        f"--plugin=protoc-gen-mypy={scripts}/protoc-gen-mypy",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *(f"refimpl/api/{name}.proto" for name in names),
    )
    protoc(
        root,
        f"--plugin=protoc-gen-mypy_grpc={scripts}/protoc-gen-mypy_grpc",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out={_TYPED_STUBS}:{target}",
        *(f"refimpl/api/{name}.proto" for name in names if name in GRPC_SERVICES),
    )


def contents(directory: Path) -> dict[str, str]:
    """The generated files of ``directory``, name to text."""
    return {path.name: path.read_text() for pattern in GENERATED for path in directory.glob(pattern)}


def differences(fresh: dict[str, str], committed: dict[str, str]) -> list[str]:
    """Say what differs, one line a file: missing, left over from a removed .proto file, or changed."""
    lines = [f"{name}: missing" for name in fresh.keys() - committed.keys()]
    lines += [f"{name}: left over" for name in committed.keys() - fresh.keys()]
    lines += [f"{name}: changed" for name in fresh.keys() & committed.keys() if fresh[name] != committed[name]]
    return sorted(lines)


def main(arguments: list[str] | None = None) -> int:
    """Generate, or with ``--check`` compare. Returns the exit status: 0, or 1 when ``--check`` found a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m refimpl.api.generate", description="Generate code from .proto files."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is there")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        fresh = contents(Path(directory) / "refimpl" / "api")

    committed = contents(HERE)
    found = differences(fresh, committed)
    if options.check:
        sys.stdout.write("".join(f"{line}\n" for line in found) or f"{len(committed)} files are as generated\n")
        return 1 if found else 0

    for name in committed.keys() - fresh.keys():
        (HERE / name).unlink()
    for name, text in fresh.items():
        (HERE / name).write_text(text)
    sys.stdout.write(f"{len(found)} of {len(fresh)} files changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
