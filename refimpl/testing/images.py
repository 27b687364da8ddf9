"""Tiny OCI images, made on the spot: one layer, the same bytes and digests for the same wishes on every machine.

The programs in an image are empty files: the fake world looks a program up in the root file system and runs its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from refimpl.client import platforms

PROGRAMS = ("cat", "echo", "env", "false", "id", "kill", "ls", "pwd", "sh", "sleep", "true")
"""What ``/bin`` of every image holds."""

FILES = {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}
"""What every image holds besides."""

EPOCH = 1_700_000_000
"""Every file's time, in Unix seconds."""

_OCI = "application/vnd.oci.image"
_CREATED = "2023-11-14T22:13:20Z"


def archive(
    name: str, *, files: Mapping[str, bytes], env: Sequence[str], command: Sequence[str], labels: Mapping[str, str]
) -> bytes:
    """An OCI layout as a tar, for this machine's platform.

    Args:
        name: the image's, which an import makes a record of.
        files: content by path, on top of ``FILES`` and ``PROGRAMS``.
        env, command, labels: for the image's config.
    """
    layer = _tar({**FILES, **{f"bin/{program}": b"" for program in PROGRAMS}, **files})
    here = platforms.host()
    config = _json(
        {
            "created": _CREATED,
            "architecture": here.architecture,
            "os": here.os,
            **({"variant": here.variant} if here.variant else {}),
            "config": {"Env": list(env), "Cmd": list(command), "Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar", layer)],
        }
    )
    entry = _descriptor("manifest.v1+json", manifest) | {"annotations": {"io.containerd.image.name": name}}
    layout = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [entry]}),
    }
    return _tar(layout | {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)})


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"{_OCI}.{kind}", "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of files, in the order of their paths, each directory before what is in it."""
    contents = {path.strip("/"): content for path, content in files.items()}
    parents = {str(parent) for path in contents for parent in PurePosixPath(path).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted([*parents, *contents]):
            member = tarfile.TarInfo(path)
            member.mtime, member.mode = EPOCH, 0o755
            if path in parents:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = len(contents[path])
                tar.addfile(member, io.BytesIO(contents[path]))
    return buffer.getvalue()
