"""Images in and out: what the client leaves is what ``ctr`` leaves, and what it writes is what ``ctr`` writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.export import export_archive
from refimpl.client.manifests import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from refimpl.client.platforms import Choice, host, parse
from refimpl.client.unpack import TARGET, unpack
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.snapshots import Kind
from refimpl.contract.types import Descriptor
from tests.acceptance import daemons, images

LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    """An OCI layout under construction."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(self, value: object, media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type)

    def image(self, architecture: str = "", diff_ids: list[str] | None = None, **extra: Any) -> dict[str, Any]:
        """A manifest of one small layer; its descriptor with ``extra`` members."""
        layer = self.blob(tar({f"{architecture or 'plain'}.txt": b"x"}), LAYER)
        ids = [layer["digest"]] if diff_ids is None else diff_ids
        config = {"os": "linux", "architecture": architecture or host().architecture, "rootfs": {"diff_ids": ids}}
        config_descriptor = self.document(config, OCI_CONFIG)
        manifest = {"schemaVersion": 2, "config": config_descriptor, "layers": [layer]}
        return {**self.document(manifest, OCI_MANIFEST), **extra}

    def archive(self, *manifests: Mapping[str, Any]) -> io.BytesIO:
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        return io.BytesIO(tar(self.files))


def tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def named(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name}


def tagged(ref: str) -> dict[str, str]:
    return {"org.opencontainers.image.ref.name": ref}


def labels(client: Client, ctx: CallContext) -> dict[str, dict[str, str]]:
    return {info.digest: dict(info.labels) for info in client.content.walk(ctx)}


def records(client: Client, ctx: CallContext) -> list[Image]:
    return [replace(image, created_at=0, updated_at=0) for image in client.images.list(ctx)]


def tree(client: Client, ctx: CallContext) -> list[tuple[str, str, Kind, dict[str, str]]]:
    found = client.snapshotter("native").walk(ctx)
    return sorted((info.name, info.parent, info.kind, dict(info.labels)) for info in found)


@pytest.mark.skipif(shutil.which("ctr") is None, reason="needs ctr from Debian's package containerd")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_import_leaves_what_ctr_leaves(
    daemon: daemons.Daemon, client: Client, ctx: CallContext, archives: images.Images, kind: str
) -> None:
    archive: Path = getattr(archives, kind)
    theirs = CallContext(namespace=f"ctr-{uuid.uuid4().hex[:8]}")
    arguments = ["images", "import", "--snapshotter", "native", "--index-name", "top:1", str(archive)]
    done = daemon.ctr("--namespace", theirs.namespace, *arguments)
    assert done.code == 0, done.stderr

    made = import_archive(ctx, client, archive, index_name="top:1")
    for image in made:
        unpack(ctx, client, image.target, "native")

    assert records(client, ctx) == records(client, theirs)
    assert labels(client, ctx) == labels(client, theirs)
    assert tree(client, ctx) == tree(client, theirs)
    assert client.leases.list(ctx) == []
    assert client.content.list_statuses(ctx) == []


@pytest.mark.skipif(shutil.which("ctr") is None, reason="needs ctr from Debian's package containerd")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_export_is_byte_for_byte_that_of_ctr(
    daemon: daemons.Daemon, client: Client, ctx: CallContext, archives: images.Images, kind: str, tmp_path: Path
) -> None:
    (image, *_) = import_archive(ctx, client, getattr(archives, kind))
    client.images.create(ctx, replace(image, name="docker.io/library/hand:latest"))
    names = [image.name, "docker.io/library/hand:latest"]
    done = daemon.ctr("--namespace", ctx.namespace, "images", "export", str(tmp_path / "theirs.tar"), *names)
    assert done.code == 0, done.stderr

    with (tmp_path / "ours.tar").open("wb") as ours:
        export_archive(ctx, client, names, ours)

    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_what_was_exported_can_be_imported_again(client: Client, ctx: CallContext, archives: images.Images) -> None:
    elsewhere = CallContext(namespace=f"{ctx.namespace}-again")
    (image,) = import_archive(ctx, client, archives.oci)
    out = io.BytesIO()
    export_archive(ctx, client, [image.name], out)
    out.seek(0)

    (again,) = import_archive(elsewhere, client, out)

    assert (again.name, again.target.digest) == (image.name, image.target.digest)
    assert unpack(elsewhere, client, again.target, "native") == unpack(ctx, client, image.target, "native")


def test_a_compressed_archive_and_a_second_import_are_welcome(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    plain = layout.archive(layout.image(annotations=named("a/b:1"))).getvalue()

    first = import_archive(ctx, client, io.BytesIO(gzip.compress(plain)))
    second = import_archive(ctx, client, io.BytesIO(plain))

    assert [image.name for image in first] == [image.name for image in second] == ["a/b:1"]
    assert len(client.images.list(ctx)) == 1
    assert client.leases.list(ctx) == []


@pytest.mark.parametrize(
    "annotations, base, name",
    [
        (tagged("latest"), "foo/bar", "foo/bar:latest"),
        (tagged("reg.io/a/b:1"), "", "reg.io/a/b:1"),
        (tagged("reg.io/a/b:1"), "foo/bar", None),
        (tagged("foo/barbaz:1"), "foo/bar", None),
        (tagged("foo/bar/baz:1"), "foo/bar", "foo/bar/baz:1"),
        ({**tagged("x"), **named("n:1")}, "foo/bar", "n:1"),
        ({}, "foo/bar", None),
    ],
)
def test_annotations_name_the_image(
    client: Client, ctx: CallContext, annotations: dict[str, str], base: str, name: str | None
) -> None:
    layout = Layout()

    made = import_archive(ctx, client, layout.archive(layout.image(annotations=annotations)), base_name=base)

    assert [image.name for image in made] == ([name] if name else [])
    assert [image.target.annotations for image in made] == ([annotations] if name else [])


def test_a_tag_without_a_repository_gets_one_of_today(client: Client, ctx: CallContext) -> None:
    layout = Layout()

    (image,) = import_archive(ctx, client, layout.archive(layout.image(annotations=tagged("latest"))))

    assert image.name.startswith("import-20")
    assert image.name.endswith(":latest")


def test_digest_names_are_made_on_request(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    manifest = layout.image()

    (image,) = import_archive(ctx, client, layout.archive(manifest), base_name="foo/bar", digests=True)

    assert image.name == f"foo/bar@{manifest['digest']}"


def platform_of(text: str) -> dict[str, str]:
    parts = text.split("/")
    return dict(zip(["os", "architecture", "variant"], parts, strict=False))


def test_only_wanted_platforms_of_an_index_are_labelled(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    offered = ["linux/s390x", "linux/arm64/v8", "linux/amd64", "linux/arm64"]
    manifests = {text: layout.image(text.replace("/", "-"), platform=platform_of(text)) for text in offered}
    index = layout.document({"schemaVersion": 2, "manifests": list(manifests.values())}, OCI_INDEX)
    archive = layout.archive({**index, "annotations": named("multi:1")}).getvalue()

    import_archive(ctx, client, io.BytesIO(archive), choice=Choice.only(parse("aarch64")))

    prefix = "containerd.io/gc.ref.content.m."
    assert labels(client, ctx)[index["digest"]] == {
        f"{prefix}0": manifests["linux/arm64/v8"]["digest"],
        f"{prefix}1": manifests["linux/arm64"]["digest"],
    }
    import_archive(ctx, client, io.BytesIO(archive), choice=Choice.every())
    assert len(labels(client, ctx)[index["digest"]]) == 4


def test_the_best_platform_is_unpacked_wherever_it_stands(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    manifests = [layout.image(arch, platform=platform_of(f"linux/{arch}")) for arch in ("386", "amd64")]
    unnamed = layout.image("arm")
    index = layout.document({"schemaVersion": 2, "manifests": [unnamed, *manifests]}, OCI_INDEX)
    archive = layout.archive({**index, "annotations": named("multi:1")})
    choice = Choice([parse("linux/amd64"), parse("linux/386")])
    (image,) = import_archive(ctx, client, archive, choice=choice)

    top = unpack(ctx, client, image.target, "native", choice=choice)

    assert top == "sha256:" + hashlib.sha256(tar({"amd64.txt": b"x"})).hexdigest()
    # A manifest without a platform passes every filter and is then judged by its config.
    assert unpack(ctx, client, image.target, "native", choice=Choice.only(parse("linux/arm"))) != top
    with pytest.raises(NotFound, match="no manifest found for platform linux/riscv64"):
        unpack(ctx, client, image.target, "native", choice=Choice.only(parse("riscv64")))


def broken_layouts() -> dict[str, tuple[bytes, type[ContainerdError]]]:
    version, indexless, kindless, wrong, filtered, childless = (Layout() for _ in range(6))
    version.files["oci-layout"] = b'{"imageLayoutVersion":"9.0"}'
    wrong_kind = {**wrong.image(), "mediaType": OCI_INDEX, "annotations": named("x:1")}
    other = filtered.image("other", platform=platform_of("linux/other"))
    gone = childless.image(annotations=named("x:1"))
    del childless.files[f"blobs/sha256/{gone['digest'].removeprefix('sha256:')}"]
    good = Layout()
    whole = good.archive(good.image(annotations=named("x:1"))).getvalue()
    return {
        "unknown version": (version.archive(version.image(annotations=named("x:1"))).getvalue(), InvalidArgument),
        "no index": (tar(indexless.files), InvalidArgument),
        "no layout": (tar({"a": b"1"}), InvalidArgument),
        "an index that is a manifest": (wrong.archive(wrong_kind).getvalue(), InvalidArgument),
        "nothing for us": (filtered.archive(other).getvalue(), InvalidArgument),
        "a manifest that is missing": (childless.archive(gone).getvalue(), NotFound),
        "random": (hashlib.sha512(b"x").digest() * 40, InvalidArgument),
        "empty": (b"", InvalidArgument),
        "cut short": (whole[:1800], InvalidArgument),
        "damaged in the middle": (whole[:1024] + b"garbage!" * 64 + whole[1536:], InvalidArgument),
        "gzip cut short": (gzip.compress(whole)[:-40], InvalidArgument),
        "no JSON": (tar({**kindless.files, "index.json": b"{"}), InvalidArgument),
        "not docker": (tar({"manifest.json": b'{"a":1}'}), InvalidArgument),
        "no such layer": (tar({"manifest.json": b'[{"Config":"c","Layers":["nope"]}]', "c": b"{}"}), NotFound),
        "bad name": (
            tar({"manifest.json": b'[{"Config":"c","Layers":[],"RepoTags":["UPPER/Bad:tag"]}]', "c": b"{}"}),
            InvalidArgument,
        ),
    }


@pytest.mark.parametrize("what", list(broken_layouts()))
def test_a_bad_archive_makes_no_image_and_leaves_no_lease(client: Client, ctx: CallContext, what: str) -> None:
    data, kind = broken_layouts()[what]

    with pytest.raises(kind):
        import_archive(ctx, client, io.BytesIO(data))

    assert client.images.list(ctx) == []
    assert client.leases.list(ctx) == []
    assert client.content.list_statuses(ctx) == []


def test_a_missing_layer_shows_when_it_is_unpacked(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    manifest = layout.image(annotations=named("x:1"))
    layer = hashlib.sha256(tar({"plain.txt": b"x"})).hexdigest()
    # Trusted by content, not by file name.
    layout.files[f"blobs/sha256/{layer}"] = b"something else"

    (image,) = import_archive(ctx, client, layout.archive(manifest))

    with pytest.raises(NotFound):
        unpack(ctx, client, image.target, "native")
    assert tree(client, ctx) == []
    assert client.leases.list(ctx) == []
    with pytest.raises(NotFound):
        export_archive(ctx, client, ["x:1"], io.BytesIO())


@pytest.mark.parametrize("ids, kind", [(["sha256:" + "0" * 64], FailedPrecondition), ([], InvalidArgument)])
def test_a_layer_that_is_not_what_the_config_says_is_not_committed(
    client: Client, ctx: CallContext, ids: list[str], kind: type[ContainerdError]
) -> None:
    layout = Layout()
    (image,) = import_archive(ctx, client, layout.archive(layout.image(diff_ids=ids, annotations=named("x:1"))))

    with pytest.raises(kind):
        unpack(ctx, client, image.target, "native")

    assert tree(client, ctx) == []
    assert not [found for found in labels(client, ctx).values() if "containerd.io/uncompressed" in found]


def test_an_announced_layer_carries_its_chain_id(client: Client, ctx: CallContext) -> None:
    layout = Layout()
    (image,) = import_archive(ctx, client, layout.archive(layout.image(annotations=named("x:1"))))

    top = unpack(ctx, client, image.target, "native", announce=True)

    assert tree(client, ctx) == [(top, "", Kind.COMMITTED, {TARGET: top})]


def test_a_docker_archive_may_name_a_layer_by_a_link(client: Client, ctx: CallContext) -> None:
    layer = tar({"a": b"1"})
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()
    document = [{"Config": "c.json", "Layers": ["l1/layer.tar", "l2/layer.tar"], "RepoTags": ["busybox:1", "alpine"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        files = {"manifest.json": json.dumps(document).encode(), "c.json": config, "l1/layer.tar": layer}
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("l2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../l1/layer.tar"
        archive.addfile(link)
    out.seek(0)

    first, second = import_archive(ctx, client, out, choice=Choice.every())

    assert [first.name, second.name] == ["docker.io/library/busybox:1", "docker.io/library/alpine:latest"]
    assert first.target.digest == second.target.digest
    manifest = json.loads(client.content.reader(ctx, first.target.digest).read_at(0, 4096))
    assert manifest["layers"][0] == manifest["layers"][1]


def test_only_manifests_and_indexes_are_exported(client: Client, ctx: CallContext) -> None:
    client.images.create(ctx, Image("text:1", Descriptor("text/plain", "sha256:" + "a" * 64, 1)))

    with pytest.raises(InvalidArgument, match="only manifests can be exported"):
        export_archive(ctx, client, ["text:1"], io.BytesIO())
    with pytest.raises(NotFound):
        export_archive(ctx, client, ["nope"], io.BytesIO())
