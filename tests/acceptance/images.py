"""Image archives, made on the spot: an OCI layout with three layers and a docker archive that shares the first.

Everything in them is fixed (names, order, times, compression), so the same program gives the same digests on every
machine. Gzip members are written with stored blocks by hand: two releases of zlib need not agree on the same bytes.

The layers exercise what an unpacker can get wrong: hard links, symlinks, modes with the sticky and set-id bits, owners,
an extended attribute, a whiteout of a file, an opaque directory, and a layer that is not compressed at all.
"""

import hashlib
import io
import json
import platform
import struct
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI_NAME = "registry.test/tools/busybox:1.0"
DOCKER_NAME = "registry.test/tools/docker:2.0"
PROGRAMS_NAME = "registry.test/tools/programs:3.0"
BUSYBOX = Path("/bin/busybox")

PROGRAMS = ("cat", "echo", "sleep", "stty", "true", "tty")
"""What the image of ``programs`` has beside a shell."""

EPOCH = 1_600_000_000
_STAMP = "2020-09-13T12:26:40Z"
_STORED_MAX = 0xFFFF  # a stored deflate block holds at most this many bytes
_GOARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


@dataclass
class Images:
    """Where the archives are, and a readable name for each digest that a daemon can be made to print.

    Attributes:
        oci: The OCI layout as a tar file.
        docker: The archive as ``docker save`` writes it.
        broken: An OCI layout whose only layer is a gzip stream cut short; all its digests are right.
        programs: An OCI layout whose busybox is linked to some programs, for containers that really run.
        cut: The first half of ``oci``: a tar file that ends in the middle of a blob.
        digests: Full digest to name, e.g. ``sha256:ab..`` to ``oci.layer1``.
        blobs: Name to bytes, the other way round, for steps that need them.
    """

    oci: Path
    docker: Path
    broken: Path
    programs: Path
    cut: Path
    digests: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def digest(self, name: str) -> str:
        """The digest called ``name``."""
        return next(digest for digest, known in self.digests.items() if known == name)


def goarch() -> str:
    """The machine's architecture in the words of OCI images."""
    return _GOARCH.get(platform.machine(), platform.machine())


def stand_in_program() -> bytes:
    """A program-sized file that is the same everywhere, for goldens; a busybox differs from release to release."""
    block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1024))
    return b"#!/bin/false\n" + block * 40


def program() -> bytes:
    """The machine's busybox where there is one, else the stand-in."""
    return BUSYBOX.read_bytes() if BUSYBOX.exists() else stand_in_program()


def build(directory: Path, content: bytes) -> Images:
    """Write all archives into ``directory``, with ``content`` as ``/bin/busybox``."""
    images = Images(
        oci=directory / "oci.tar",
        docker=directory / "docker.tar",
        broken=directory / "broken.tar",
        programs=directory / "programs.tar",
        cut=directory / "cut.tar",
    )
    # Digests that the script uses beside those of the images.
    images.digests |= {sha256(b"hello\n"): "hello", sha256(b"edited\n"): "edited", "sha256:" + "0" * 64: "zeros"}
    base, change, plain = _base_layer(content), _change_layer(), _plain_layer()
    _build_oci(images, [base, change, plain])
    _build_docker(images, [base, _docker_layer()])
    _build_broken(images, plain)
    _build_programs(images, [base, _links_layer()])
    whole = images.oci.read_bytes()
    images.cut.write_bytes(whole[: len(whole) // 2])
    for path in (images.oci, images.docker, images.broken, images.programs, images.cut):
        path.chmod(0o644)
    return images


def sha256(data: bytes) -> str:
    """The digest of ``data`` as OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The names of the snapshots into which layers with these digests are unpacked."""
    chain = [diff_ids[0]]
    for diff_id in diff_ids[1:]:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()))
    return chain


def gzip_stored(data: bytes) -> bytes:
    """A gzip member around ``data`` with no compression, the same bytes on every machine."""
    blocks = [data[start : start + _STORED_MAX] for start in range(0, len(data), _STORED_MAX)] or [b""]
    out = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        out.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    out.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(out)


class _Layer:
    """A tar under construction whose every header field is fixed."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        # Members are added over several calls; bytes() closes it.
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, content: bytes = b"", mode: int = 0o644, **fields: Any) -> None:
        info = tarfile.TarInfo(name)
        info.mtime, info.mode, info.size = EPOCH, mode, len(content)
        for key, value in fields.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(content))

    def directory(self, name: str, mode: int = 0o755, **fields: Any) -> None:
        self.add(name, mode=mode, type=tarfile.DIRTYPE, **fields)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def _base_layer(content: bytes) -> bytes:
    layer = _Layer()
    layer.directory("bin/")
    layer.add("bin/busybox", content, 0o755)
    layer.add("bin/sh", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777)
    layer.add("bin/ls", type=tarfile.LNKTYPE, linkname="bin/busybox", mode=0o755)
    layer.directory("etc/")
    layer.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/home:/bin/sh\n")
    layer.add("etc/group", b"root:x:0:root\nusers:x:100:guest\n")
    layer.add("etc/motd", b"welcome\n")
    layer.add("etc/shadow", b"root:*::0:::::\n", 0o640, gid=42)
    layer.directory("home/", 0o2755, uid=405, gid=100)
    layer.directory("tmp/", 0o1777)
    layer.directory("var/")
    layer.directory("var/old/")
    layer.add("var/old/a", b"a\n")
    layer.add("var/old/b", b"b\n")
    return layer.bytes()


def _change_layer() -> bytes:
    layer = _Layer()
    layer.directory("etc/")
    layer.add("etc/.wh.motd")
    layer.add("etc/hostname", b"tools\n")
    layer.add("etc/group", b"root:x:0:root\nwheel:x:10:root\nusers:x:100:guest\n")
    layer.directory("var/")
    layer.directory("var/old/", 0o700)
    layer.add("var/old/.wh..wh..opq")
    layer.add("var/old/c", b"c\n")
    return layer.bytes()


def _plain_layer() -> bytes:
    layer = _Layer()
    layer.directory("usr/")
    layer.directory("usr/share/")
    layer.add("usr/share/readme", b"read me\n", pax_headers={"SCHILY.xattr.user.colour": "green"})
    layer.add("usr/share/set-id", b"#!/bin/sh\n", 0o4755)
    return layer.bytes()


def _links_layer() -> bytes:
    layer = _Layer()
    layer.directory("bin/")
    for name in PROGRAMS:
        layer.add(f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777)
    return layer.bytes()


def _docker_layer() -> bytes:
    layer = _Layer()
    layer.directory("srv/")
    layer.add("srv/index.html", b"<p>hello</p>\n")
    return layer.bytes()


def _config(images: Images, prefix: str, layers: list[bytes]) -> bytes:
    """An image config; also names the digests of the layers' uncompressed bytes and of their chains."""
    diff_ids = [sha256(layer) for layer in layers]
    for number, (diff_id, chain_id) in enumerate(zip(diff_ids, chain_ids(diff_ids), strict=True), start=1):
        # The first name wins: the two images share their first layer on purpose.
        images.digests.setdefault(diff_id, f"{prefix}.diff{number}")
        images.digests.setdefault(chain_id, f"{prefix}.chain{number}")
    return _json(
        {
            "created": _STAMP,
            "architecture": goarch(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/home", "Labels": {"test.kind": prefix}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": _STAMP, "created_by": f"layer {number}"} for number in range(1, len(layers) + 1)],
        }
    )


def _build_oci(images: Images, layers: list[bytes]) -> None:
    kinds = ["tar+gzip"] * (len(layers) - 1) + ["tar"]
    blobs = [gzip_stored(layer) if kind == "tar+gzip" else layer for layer, kind in zip(layers, kinds, strict=True)]
    config = _config(images, "oci", layers)
    _write_layout(images, images.oci, "oci", OCI_NAME, config, list(zip(blobs, kinds, strict=True)))


def _build_broken(images: Images, layer: bytes) -> None:
    blob = gzip_stored(layer)[: len(layer) // 2]
    config = _config(images, "broken", [layer])
    _write_layout(images, images.broken, "broken", "registry.test/broken:1", config, [(blob, "tar+gzip")])


def _build_programs(images: Images, layers: list[bytes]) -> None:
    blobs = [(gzip_stored(layer), "tar+gzip") for layer in layers]
    _write_layout(images, images.programs, "programs", PROGRAMS_NAME, _config(images, "programs", layers), blobs)


def _write_layout(
    images: Images, path: Path, prefix: str, name: str, config: bytes, layers: list[tuple[bytes, str]]
) -> None:
    def note(label: str, data: bytes) -> str:
        digest = sha256(data)
        images.digests.setdefault(digest, f"{prefix}.{label}")
        images.blobs.setdefault(f"{prefix}.{label}", data)
        return digest

    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": note("config", config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": f"application/vnd.oci.image.layer.v1.{kind}",
                    "digest": note(f"layer{number}", blob),
                    "size": len(blob),
                }
                for number, (blob, kind) in enumerate(layers, start=1)
            ],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": note("manifest", manifest),
                    "size": len(manifest),
                    "annotations": {"io.containerd.image.name": name},
                }
            ],
        }
    )
    images.digests.setdefault(sha256(index), f"{prefix}.index")
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    for blob in [*(blob for blob, _ in layers), config, manifest]:
        files["blobs/sha256/" + sha256(blob).removeprefix("sha256:")] = blob
    _write_tar(path, files)


def _build_docker(images: Images, layers: list[bytes]) -> None:
    config = _config(images, "docker", layers)
    images.digests.setdefault(sha256(config), "docker.config")
    images.blobs.setdefault("docker.config", config)
    names = [f"{number}/layer.tar" for number in range(1, len(layers) + 1)]
    entry = {"Config": "config.json", "RepoTags": [DOCKER_NAME], "Layers": names}
    files = {**dict(zip(names, layers, strict=True)), "config.json": config, "manifest.json": _json([entry])}
    _write_tar(images.docker, files)


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    archive = _Layer()
    for name, content in files.items():
        archive.add(name, content)
    path.write_bytes(archive.bytes())


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
