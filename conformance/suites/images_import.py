"""Images, the way in: what a client makes of archives, and what unpacking leaves (IMG-032 to IMG-051).

These clauses bind the client as much as the daemon: the labels and records that it leaves are what collectors, other
clients and CRI rely on. They are judged with a client of ours that speaks the contract's protocols only; what no option
of that client stands for is judged with ``ctr`` where there is one.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import datetime

import pytest

from conformance import clause
from conformance.suites._content import digest_of, fresh, has, read, store
from conformance.suites._images import (
    GC_CONTENT,
    GC_SNAPSHOT,
    LAYER,
    LAYER_GZIP,
    NAME,
    REF,
    UNCOMPRESSED,
    Archive,
    chained,
    ctr,  # a fixture
    digests,
    exists,
    listed,
    names,
    other_platforms,
    simple,
    target,
    tarred,
    tool,  # a fixture
    tree,
)
from refimpl.client.manifests import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)
from refimpl.client.platforms import host, parse
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.snapshots import Kind
from refimpl.contract.types import Platform

CTR = {"ctr", "wire"}


def labels(content, ctx, digest):
    """The labels of a blob."""
    return dict(content.info(ctx, digest).labels)


def references(content, ctx, digest):
    """What a blob refers to, by the last parts of its labels."""
    found = labels(content, ctx, digest)
    return {key.removeprefix(f"{GC_CONTENT}."): value for key, value in found.items() if key.startswith(GC_CONTENT)}


def gone(leases, content, ctx):
    """Whether nothing is left of the work on an import."""
    return (leases.list(ctx), content.list_statuses(ctx)) == ([], [])


# ------------------------------------------------------------------------------------------------ labels


@clause("IMG-032", needs=())
def test_a_manifest_is_labelled_with_its_config_and_layers(unleased, content, tool, collect):
    """Rejects: one label key for all children, so that only the last layer survives."""
    made, archive = simple("a/b:1")

    tool.load(unleased, archive)

    expected = {f"{GC_CONTENT}.config": made.config.digest}
    expected |= {f"{GC_CONTENT}.l.{n}": layer.blob.digest for n, layer in enumerate(made.layers)}
    assert labels(content, unleased, made.manifest.digest) == expected
    collect(unleased)
    assert digests(content, unleased) == made.blobs


@clause("IMG-032", needs=())
def test_labels_that_a_manifest_has_already_are_kept(ctx, content, tool, blob):
    """Rejects: labels that are replaced instead of added."""
    archive = Archive()
    made = archive.image()
    blob(archive.files[archive.path(made.manifest.digest)], labels={"mine": "1"})

    tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    assert labels(content, ctx, made.manifest.digest)["mine"] == "1"
    assert references(content, ctx, made.manifest.digest)["config"] == made.config.digest


def _for_three(archive):
    """Images for two other platforms and for this machine, in this order with this machine's in the middle."""
    first, second = other_platforms()
    platforms = [first, host(), second]
    made = [archive.image(platform=platform) for platform in platforms]
    return made, archive.index(*(listed(m.manifest, p) for m, p in zip(made, platforms, strict=True)))


@clause("IMG-033", needs=())
def test_an_index_is_labelled_with_the_manifests_that_were_taken(ctx, content, tool):
    """Rejects: labels, or numbers, for the platforms that were left out."""
    archive = Archive()
    made, index = _for_three(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))

    assert references(content, ctx, archive.top) == {"0": index.digest}
    assert references(content, ctx, index.digest) == {"m.0": made[1].manifest.digest}


@clause("IMG-033", needs=())
def test_an_index_is_labelled_with_every_manifest_where_all_are_taken(ctx, content, tool):
    """Rejects: a second import that leaves out what the first did."""
    archive = Archive()
    made, index = _for_three(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), all_platforms=True)

    assert references(content, ctx, index.digest) == {f"m.{n}": m.manifest.digest for n, m in enumerate(made)}


@clause("IMG-033", needs=())
def test_children_of_unknown_types_are_labelled_by_number(ctx, content, tool):
    """Rejects: a name for config and layers by their place instead of their type."""
    archive = Archive()
    children = [archive.blob(fresh(), f"application/vnd.foo.{what}") for what in ("config", "data")]
    children.append(archive.blob(fresh(), "text/plain"))
    manifest = archive.manifest(*children)

    tool.load(ctx, archive.layout(listed(manifest, name="a/b:1")))

    assert references(content, ctx, manifest.digest) == {str(n): blob.digest for n, blob in enumerate(children)}


# ------------------------------------------------------------------------------------------------ unpacking


@clause("IMG-034", needs=())
def test_committed_snapshots_are_named_by_chain_ids(ctx, content, tool, snapshotter, snapshotter_id):
    """Rejects: chain ids of the compressed digests, or layers that are unpacked again for every image."""
    archive = Archive()
    one = archive.image()
    other = archive.image(one.layers[0], archive.layer())
    images = tool.load(ctx, archive.layout(listed(one.manifest, name="one"), listed(other.manifest, name="other")))

    assert tool.unpack(ctx, images[0].target, snapshotter_id) == one.chain[1]
    first, second = (layer.diff_id for layer in one.layers)
    assert tree(snapshotter, ctx) == {first: "", digest_of(f"{first} {second}".encode()): first}
    assert {info.kind for info in snapshotter.walk(ctx)} == {Kind.COMMITTED}

    assert tool.unpack(ctx, images[1].target, snapshotter_id) == other.chain[1]
    assert tree(snapshotter, ctx) == {one.chain[0]: "", one.chain[1]: one.chain[0], other.chain[1]: one.chain[0]}


@clause("IMG-035", needs=())
def test_the_config_is_labelled_with_the_snapshot_of_every_snapshotter(
    subject, unleased, content, images, tool, collect, snapshotters
):
    """Rejects: a label on the manifest, or one that the second snapshotter overwrites."""
    both = list(subject.snapshotters[:2])
    if len(both) == 1:
        pytest.skip("the subject has one snapshotter only")
    made, archive = simple("a/b:1")
    tool.load(unleased, archive)

    for id in both:
        tool.unpack(unleased, made.manifest, id)

    top = made.chain[-1]
    assert labels(content, unleased, made.config.digest) == {f"{GC_SNAPSHOT}.{id}": top for id in both}
    assert not any(key.startswith(GC_SNAPSHOT) for key in labels(content, unleased, made.manifest.digest))
    collect(unleased)
    for id in both:
        assert set(tree(snapshotters(id), unleased)) == set(made.chain)
    images.delete(unleased, "a/b:1", sync=True)
    assert [tree(snapshotters(id), unleased) for id in both] == [{}, {}]
    assert digests(content, unleased) == set()


@clause("IMG-036", needs=())
def test_a_layer_is_labelled_with_its_diff_id_once_it_was_unpacked(ctx, content, tool, snapshotter_id):
    """Rejects: a label copied from the config when the image comes in."""
    made, archive = simple("a/b:1")
    tool.load(ctx, archive)
    for layer in made.layers:
        assert labels(content, ctx, layer.blob.digest) == {}, "nobody has verified anything yet"

    tool.unpack(ctx, made.manifest, snapshotter_id)

    for layer in made.layers:
        assert labels(content, ctx, layer.blob.digest) == {UNCOMPRESSED: layer.diff_id}


@clause("IMG-037", needs=())
@pytest.mark.parametrize("wrong", ["first", "second", "too-few"])
def test_a_layer_that_is_not_what_the_config_says_is_not_unpacked(
    ctx, content, images, tool, snapshotter, snapshotter_id, wrong
):
    """Rejects: a snapshot that has the promised name before anybody looked at what is in it."""
    archive = Archive()
    layers = archive.layer(), archive.layer()
    right = [layer.diff_id for layer in layers]
    lie = digest_of(fresh())
    diff_ids = {"first": [lie, right[1]], "second": [right[0], lie], "too-few": right[:1]}[wrong]
    made = archive.image(*layers, diff_ids=diff_ids)
    tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    with pytest.raises(ContainerdError):
        tool.unpack(ctx, made.manifest, snapshotter_id)

    assert tree(snapshotter, ctx) == ({right[0]: ""} if wrong == "second" else {}), "no snapshot of the wrong layer"
    assert exists(images, ctx, "a/b:1"), "what was imported stays"
    assert UNCOMPRESSED not in labels(content, ctx, layers[0 if wrong == "first" else 1].blob.digest)


# ------------------------------------------------------------------------------------------------ platforms

PLATFORMS = {
    name: Platform(*name.split("/"))
    for name in (
        "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/arm64/v8", "linux/amd64", "linux/386",
        "linux/amd64/v2", "windows/amd64",
    )
}  # fmt: skip


def _for_many(archive):
    """A manifest for each platform, all of one config and layer, and an index over them."""
    config = archive.document(archive.config(host(), [digest_of(fresh())]), OCI_CONFIG)
    layer = archive.blob(fresh(), LAYER)
    made = {
        name: archive.document(
            {"schemaVersion": 2, "config": listed(config), "layers": [listed(layer)], "annotations": {"is": name}},
            OCI_MANIFEST,
        )
        for name in PLATFORMS
    }
    return made, archive.index(*(listed(made[name], platform) for name, platform in PLATFORMS.items()))


def _taken(content, ctx, index, made):
    """The platforms whose manifests an index is labelled with."""
    found = set(references(content, ctx, index.digest).values())
    return {name for name, manifest in made.items() if manifest.digest in found}


@clause("IMG-038", needs=())
@pytest.mark.parametrize(
    "asked, expected",
    [
        ("linux/arm", {"linux/arm/v7"}),
        ("linux/arm64", {"linux/arm64", "linux/arm64/v8"}),
        ("linux/arm64/v8", {"linux/arm64", "linux/arm64/v8"}),
        ("linux/aarch64", {"linux/arm64", "linux/arm64/v8"}),
        ("arm64", {"linux/arm64", "linux/arm64/v8"}),
        ("linux/x86_64", {"linux/amd64"}),
        ("linux/x86-64", {"linux/amd64"}),
        ("linux/i386", {"linux/386"}),
        ("windows/amd64", {"windows/amd64"}),
    ],
)
def test_a_platform_has_one_spelling(ctx, content, tool, asked, expected):
    """Rejects: ``arm64`` and ``arm64/v8`` taken for different platforms."""
    archive = Archive()
    made, index = _for_many(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), platform=asked)

    assert _taken(content, ctx, index, made) == expected


@clause("IMG-038", needs=())
@pytest.mark.parametrize("asked", ["bad/////", "linux/am d64", "linux/"])
def test_what_is_no_platform_is_refused(ctx, images, tool, asked):
    """Rejects: a platform that nothing has, and an import that therefore takes nothing."""
    with pytest.raises(InvalidArgument):
        tool.load(ctx, simple("a/b:1")[1], platform=asked)

    assert images.list(ctx) == []


@clause("IMG-039", needs=())
@pytest.mark.parametrize("asked", ["linux/arm/v7", "linux/amd64", "linux/386"])
def test_a_platform_that_was_asked_for_is_taken_alone(ctx, content, tool, asked):
    """Rejects: fallbacks for somebody who named what they want."""
    archive = Archive()
    made, index = _for_many(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), platform=asked)

    assert _taken(content, ctx, index, made) == {asked}


FALLBACKS = {
    "linux/amd64": {"linux/amd64", "linux/386"},
    "linux/arm64": {"linux/arm64", "linux/arm64/v8", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7"},
    "linux/arm/v7": {"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"},
}
"""What a machine takes of ``PLATFORMS`` when nobody asks for a platform."""


def _with_fallbacks():
    if str(host()) not in FALLBACKS:
        pytest.skip(f"this machine, {host()}, has no fallbacks that the clause names")


@clause("IMG-039", needs=())
def test_without_a_platform_all_that_the_machine_runs_is_taken(ctx, content, tool):
    """Rejects: a default as strict as a platform that was asked for."""
    _with_fallbacks()
    archive = Archive()
    made, index = _for_many(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))

    assert _taken(content, ctx, index, made) == FALLBACKS[str(host())]


@clause("IMG-039", needs=())
@pytest.mark.parametrize("turned", [False, True], ids=["best-last", "best-first"])
def test_the_best_match_is_unpacked(ctx, tool, snapshotter, snapshotter_id, turned):
    """Rejects: the first entry that matches at all."""
    _with_fallbacks()
    archive = Archive()
    second = {"linux/amd64": "linux/386"}.get(str(host()), "linux/arm/v6")
    order = [str(host()), second] if turned else [second, str(host())]
    made = {name: archive.image(platform=parse(name)) for name in order}
    index = archive.index(*(listed(made[name].manifest, parse(name)) for name in order))
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))

    assert tool.unpack(ctx, index, snapshotter_id) == made[str(host())].chain[-1]
    assert set(tree(snapshotter, ctx)) == set(made[str(host())].chain)


@clause("IMG-040", needs=())
def test_an_entry_without_a_platform_passes_every_filter(ctx, content, tool):
    """Rejects: descriptors that are left out because they state no platform."""
    archive = Archive()
    plain, strange = archive.image(), archive.image(platform=other_platforms()[0])
    index = archive.index(listed(plain.manifest), listed(strange.manifest, other_platforms()[0]))

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), platform=str(other_platforms()[1]))

    assert references(content, ctx, index.digest) == {"m.0": plain.manifest.digest}


@clause("IMG-040", needs=())
def test_an_entry_without_a_platform_is_judged_by_its_config(ctx, tool, snapshotter_id):
    """Rejects: a manifest for another machine that is unpacked because its entry does not say so."""
    archive = Archive()
    strange, plain = archive.image(platform=other_platforms()[0]), archive.image()
    index = archive.index(listed(strange.manifest), listed(plain.manifest))
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))

    assert tool.unpack(ctx, index, snapshotter_id) == plain.chain[-1]


@clause("IMG-040", needs=())
def test_an_entry_that_states_its_platform_ranks_before_one_that_does_not(ctx, tool, snapshotter_id):
    """Rejects: the order of the index as the only rank."""
    archive = Archive()
    plain, stated = archive.image(), archive.image()
    index = archive.index(listed(plain.manifest), listed(stated.manifest, host()))
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))

    assert tool.unpack(ctx, index, snapshotter_id) == stated.chain[-1]


# ------------------------------------------------------------------------------------------------ names


def _today():
    return f"import-{datetime.now().astimezone():%Y-%m-%d}"


@clause("IMG-041", needs=())
@pytest.mark.parametrize(
    "annotations, base_name, expected",
    [
        ({"ref": "latest"}, "", "{today}:latest"),
        ({"ref": "latest"}, "foo/bar", "foo/bar:latest"),
        ({"ref": "reg.io/a/b:1"}, "", "reg.io/a/b:1"),
        ({"ref": "a@b"}, "", "a@b"),
        ({"name": "Any thing/at:all"}, "", "Any thing/at:all"),
        ({"name": "image.name/wins:1", "ref": "latest"}, "foo/bar", "image.name/wins:1"),
    ],
    ids=["tag", "tag-and-base", "full", "digest", "name", "both"],
)
def test_images_are_named_by_annotations(ctx, images, tool, annotations, base_name, expected):
    """Rejects: a tag taken for a whole name, a target without its annotations, or a name that is made prettier."""
    made, archive = simple(**annotations)
    before = _today()

    found = tool.load(ctx, archive, base_name=base_name)

    assert names(images, ctx) == [image.name for image in found]
    assert found[0].name in {expected.format(today=day) for day in (before, _today())}
    stored = images.get(ctx, found[0].name)
    full = {{"name": NAME, "ref": REF}[key]: value for key, value in annotations.items()}
    assert stored.target == replace(made.manifest, annotations=full)


@clause("IMG-041", needs=())
def test_a_descriptor_without_names_gives_no_image(ctx, content, images, tool):
    """Rejects: a name made up, or an import that fails for want of one."""
    made, archive = simple()

    assert tool.load(ctx, archive) == []

    assert images.list(ctx) == []
    assert made.blobs <= digests(content, ctx)


@clause("IMG-042", needs=())
@pytest.mark.parametrize(
    "ref, kept",
    [
        ("foo/bar", True),
        ("foo/bar:1", True),
        ("foo/bar/more:1", True),
        (f"foo/bar@sha256:{64 * 'a'}", True),
        ("foo/barbaz:1", False),
        ("foo/bar-2/x", False),
        ("reg.io/a/b:1", False),
    ],
)
def test_a_given_base_name_filters_full_names(ctx, images, tool, ref, kept):
    """Rejects: a plain test for a prefix, which lets ``foo/barbaz`` through."""
    tool.load(ctx, simple(ref=ref)[1], base_name="foo/bar")

    assert names(images, ctx) == ([ref] if kept else [])


@clause("IMG-043", needs=())
def test_manifests_can_be_named_by_digest(ctx, images, tool):
    """Rejects: a digest of something else, or a second name that takes the place of the first."""
    archive = Archive()
    made, other = archive.image(), archive.image()
    index = archive.index(listed(made.manifest, host()))
    entries = listed(made.manifest), listed(index), listed(other.manifest, ref="latest")
    tool.load(ctx, archive.layout(*entries), digests=True, base_name="foo/bar")

    assert {image.name: image.target.digest for image in images.list(ctx)} == {
        "foo/bar:latest": other.manifest.digest,
        **{f"foo/bar@{blob.digest}": blob.digest for blob in (made.manifest, index, other.manifest)},
    }


@clause("IMG-043", needs=())
def test_the_index_on_top_can_be_named(ctx, images, tool):
    """Rejects: an index name that stands for the first manifest."""
    archive = Archive()
    made = archive.image()
    data = archive.layout(listed(made.manifest, name="a/b:1"))

    tool.load(ctx, data, index_name="idx:1")

    top = images.get(ctx, "idx:1").target
    assert (top.media_type, top.digest) == (OCI_INDEX, archive.top)
    assert images.get(ctx, "a/b:1").target.digest == made.manifest.digest


@clause("IMG-043", needs=CTR)
def test_digest_names_can_be_left_out_where_there_is_a_name(ctx, images, ctr, tmp_path):
    """Rejects: a second name for manifests that have one."""
    (tmp_path / "archive.tar").write_bytes(simple(ref="latest")[1])

    done = ctr(
        ctx, "images", "import", "--no-unpack", "--digests", "--skip-digest-for-named", "--base-name", "foo/bar",
        str(tmp_path / "archive.tar"),
    )  # fmt: skip

    assert done.code == 0, done.err
    assert names(images, ctx) == ["foo/bar:latest"]


# ------------------------------------------------------------------------------------------------ what is refused


@clause("IMG-044", needs=())
def test_a_file_is_stored_under_the_digest_of_its_bytes(ctx, content, images, tool, snapshotter, snapshotter_id):
    """Rejects: blobs stored under the digest that their file's name promises."""
    archive = Archive()
    made = archive.image()
    lied = made.layers[0].blob.digest
    other = fresh()
    archive.files[archive.path(lied)] = other

    tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    assert not has(content, ctx, lied)
    assert read(content, ctx, digest_of(other)) == other
    with pytest.raises(NotFound):
        tool.unpack(ctx, made.manifest, snapshotter_id)
    assert tree(snapshotter, ctx) == {}


@clause("IMG-044", needs=())
@pytest.mark.parametrize("path", ["../../../../{}", "/{}", "blobs/sha256/../../../{}"], ids=["up", "absolute", "inner"])
def test_a_name_that_leads_elsewhere_is_a_blob_like_any_other(
    subject, ctx, content, images, tool, unique, tmp_path, path
):
    """Rejects: a file that is written where the archive says."""
    archive = Archive()
    made = archive.image()
    name, extra = unique("escaped"), fresh()
    archive.files[path.format(name)] = extra

    tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    assert digests(content, ctx) == made.blobs | {archive.top, digest_of(extra)}
    if subject.root is not None:
        places = [subject.root, *subject.root.parents]
        assert not [place for place in places if (place / name).exists()]


def _broken(how):
    archive = Archive()
    made = archive.image()
    good = archive.layout(listed(made.manifest, name="a/b:1"))
    if how == "version":
        return archive.layout(listed(made.manifest, name="a/b:1"), version="9.0")
    if how == "no index":
        del archive.files["index.json"]
        return archive.tar()
    if how == "no layout":
        del archive.files["oci-layout"]
        return archive.tar()
    if how == "filtered":
        strange = archive.image(platform=other_platforms()[0])
        return archive.layout(listed(strange.manifest, other_platforms()[0], name="a/b:1"))
    return {
        "noise": fresh(4096),
        "empty": b"",
        "cut": good[: len(good) // 2],
        "damaged": good[:1024] + fresh(512) + good[1536:],
    }[how]


@clause("IMG-045", needs=())
@pytest.mark.parametrize("how", ["version", "no index", "no layout", "filtered", "noise", "empty", "cut", "damaged"])
def test_an_archive_that_is_none_gives_no_image(unleased, content, images, leases, tool, how):
    """Rejects: an unknown version read as the known one, or images made before the end of the archive was seen."""
    with pytest.raises(ContainerdError):
        tool.load(unleased, _broken(how))

    assert images.list(unleased) == []


@clause("IMG-045", needs=CTR)
def test_ctr_does_not_unpack_archives(ctx, images, ctr, tmp_path):
    """Rejects: nothing that clients need; that a compressed archive is refused is known of ``ctr`` alone."""
    (tmp_path / "archive.tar.gz").write_bytes(gzip.compress(simple("a/b:1")[1]))

    assert ctr(ctx, "images", "import", "--no-unpack", str(tmp_path / "archive.tar.gz")).code == 1
    assert images.list(ctx) == []


@clause("IMG-046", needs=())
def test_a_manifest_that_is_missing_fails_the_import(ctx, images, tool):
    """Rejects: a name for something that nobody has."""
    archive = Archive()
    made = archive.image()
    del archive.files[archive.path(made.manifest.digest)]

    with pytest.raises(NotFound):
        tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    assert images.list(ctx) == []


@clause("IMG-046", needs=())
def test_a_layer_that_is_missing_fails_the_unpacking_only(ctx, content, images, tool, snapshotter, snapshotter_id):
    """Rejects: an import that looks for layers, which breaks archives of some platforms of many."""
    archive = Archive()
    made = archive.image()
    del archive.files[archive.path(made.layers[0].blob.digest)]

    tool.load(ctx, archive.layout(listed(made.manifest, name="a/b:1")))

    assert images.get(ctx, "a/b:1").target.digest == made.manifest.digest
    assert references(content, ctx, made.manifest.digest)["l.0"] == made.layers[0].blob.digest
    with pytest.raises(NotFound):
        tool.unpack(ctx, made.manifest, snapshotter_id)
    assert tree(snapshotter, ctx) == {}


@clause("IMG-047", needs=())
@pytest.mark.parametrize("how", ["manifest as index", "index as manifest", "both", "schema 1", "says otherwise"])
def test_a_document_of_another_kind_is_refused(ctx, images, tool, how):
    """Rejects: a document read by guess, which two clients may guess differently."""
    archive = Archive()
    made = archive.image()
    index = archive.index(listed(made.manifest, host()))
    manifest = json.loads(archive.files[archive.path(made.manifest.digest)])
    entry = {
        "manifest as index": lambda: replace(made.manifest, media_type=OCI_INDEX),
        "index as manifest": lambda: replace(index, media_type=OCI_MANIFEST),
        "both": lambda: archive.document({**manifest, "manifests": [listed(made.manifest)]}, OCI_MANIFEST),
        "schema 1": lambda: archive.document({**manifest, "fsLayers": [{"blobSum": made.config.digest}]}, OCI_MANIFEST),
        "says otherwise": lambda: archive.document({**manifest, "mediaType": OCI_INDEX}, OCI_MANIFEST),
    }[how]()

    with pytest.raises(ContainerdError):
        tool.load(ctx, archive.layout(listed(entry, name="a/b:1")))

    assert images.list(ctx) == []


# ------------------------------------------------------------------------------------------------ Docker's archives


def _saved(archive, *layers, config=None):
    """Files as ``docker save`` names them; the entry of ``manifest.json`` without its tags."""
    paths = []
    for n, layer in enumerate(layers):
        paths.append(f"{n}{fresh(4).hex()}/layer.tar")
        archive.files[paths[-1]] = layer
    document = archive.config(host(), [digest_of(_plain(layer)) for layer in layers])
    archive.files["config.json"] = json.dumps(config or document).encode()
    return {"Config": "config.json", "Layers": paths}


def _plain(layer):
    return gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer


def _layer():
    return tarred({f"{fresh(4).hex()}.txt": fresh()})


def _document(content, ctx, digest):
    return json.loads(read(content, ctx, digest))


@clause("IMG-048", needs=())
def test_a_docker_archive_is_imported_under_its_full_names(ctx, content, images, tool, snapshotter_id):
    """Rejects: tags stored as they stand, or a manifest of another kind than Docker's."""
    archive = Archive()
    entry = _saved(archive, _layer())

    tool.load(ctx, archive.docker({**entry, "RepoTags": ["busybox:1", "alpine"]}), index_name="top")

    assert names(images, ctx, "name!=top") == ["docker.io/library/alpine:latest", "docker.io/library/busybox:1"]
    alpine, busybox = images.list(ctx, ["name!=top"])
    assert alpine.target.digest == busybox.target.digest
    assert alpine.target.media_type == DOCKER_MANIFEST
    assert dict(busybox.target.annotations) == {NAME: "docker.io/library/busybox:1", REF: "1"}
    assert dict(alpine.target.annotations) == {NAME: "docker.io/library/alpine:latest", REF: "latest"}
    manifest = _document(content, ctx, busybox.target.digest)
    assert (manifest["mediaType"], manifest["schemaVersion"]) == (DOCKER_MANIFEST, 2)
    assert manifest["config"]["mediaType"] == DOCKER_CONFIG
    assert manifest["config"]["digest"] == digest_of(archive.files["config.json"])
    top = images.get(ctx, "top").target
    assert top.media_type == OCI_INDEX
    assert {m["digest"] for m in _document(content, ctx, top.digest)["manifests"]} == {busybox.target.digest}
    assert tool.unpack(ctx, busybox.target, snapshotter_id) == digest_of(archive.files[entry["Layers"][0]])


@clause("IMG-048", needs=())
@pytest.mark.parametrize("tags", [[], None], ids=["empty", "null"])
def test_a_docker_image_without_tags_has_no_name(ctx, images, tool, tags):
    """Rejects: a name made up, or an archive that is refused for it."""
    archive = Archive()

    tool.load(ctx, archive.docker({**_saved(archive, _layer()), "RepoTags": tags}))

    assert images.list(ctx) == []


@clause("IMG-048", needs=())
def test_a_tag_that_is_no_reference_fails_the_import(ctx, images, tool):
    """Rejects: a name that Docker would never take back."""
    archive = Archive()

    with pytest.raises(ContainerdError):
        tool.load(ctx, archive.docker({**_saved(archive, _layer()), "RepoTags": ["good:1", "UPPER/Bad:tag"]}))

    assert images.list(ctx) == []


@clause("IMG-048", needs=())
def test_the_oci_layout_wins_over_manifest_json(ctx, images, tool):
    """Rejects: every image twice, for archives that serve both."""
    archive = Archive()
    made = archive.image()
    archive.layout(listed(made.manifest, name="oci/wins:1"))

    tool.load(ctx, archive.docker({**_saved(archive, _layer()), "RepoTags": ["docker:1"]}))

    assert names(images, ctx) == ["oci/wins:1"]


@clause("IMG-049", needs=())
@pytest.mark.parametrize(
    "pack, media_type", [(bytes, DOCKER_LAYER), (gzip.compress, DOCKER_LAYER_GZIP)], ids=["plain", "gzip"]
)
def test_the_type_of_a_docker_layer_follows_its_bytes(ctx, content, images, tool, snapshotter_id, pack, media_type):
    """Rejects: the same type for all, so that other clients cannot read the layer."""
    archive = Archive()
    layers = [pack(_layer()), pack(_layer())]

    (image,) = tool.load(ctx, archive.docker({**_saved(archive, *layers), "RepoTags": ["a:1"]}))

    found = _document(content, ctx, image.target.digest)["layers"]
    assert [(x["mediaType"], x["digest"], x["size"]) for x in found] == [
        (media_type, digest_of(b), len(b)) for b in layers
    ]
    first, second = (digest_of(_plain(layer)) for layer in layers)
    assert tool.unpack(ctx, image.target, snapshotter_id) == chained(first, second)


@clause("IMG-049", needs=())
def test_a_symlink_stands_for_the_layer_it_points_to(ctx, content, tool):
    """Rejects: symlinked layers, as ``docker save`` writes them, taken for empty ones."""
    archive = Archive()
    first, second = _layer(), _layer()
    archive.files |= {"l1/layer.tar": first, "l2/layer.tar": second}
    archive.links["s/layer.tar"] = "../l2/layer.tar"
    archive.files["config.json"] = json.dumps(archive.config(host(), [digest_of(first), digest_of(second)])).encode()
    entry = {"Config": "config.json", "RepoTags": ["a:1"]}

    linked = tool.load(ctx, archive.docker({**entry, "Layers": ["l1/layer.tar", "s/layer.tar"]}))
    direct = tool.load(ctx, archive.docker({**entry, "Layers": ["l1/layer.tar", "l2/layer.tar"]}))

    assert linked[0].target == direct[0].target
    found = _document(content, ctx, linked[0].target.digest)["layers"]
    assert [layer["digest"] for layer in found] == [digest_of(first), digest_of(second)]


@clause("IMG-049", needs=())
def test_a_compressed_twin_is_used_instead(ctx, content, tool, blob):
    """Rejects: a layer stored twice, as it came and as it is there."""
    archive = Archive()
    layer = _layer()
    packed = gzip.compress(layer)
    twin = blob(packed, labels={UNCOMPRESSED: digest_of(layer)})

    (image,) = tool.load(ctx, archive.docker({**_saved(archive, layer), "RepoTags": ["a:1"]}))

    (found,) = _document(content, ctx, image.target.digest)["layers"]
    assert (found["digest"], found["size"], found["mediaType"]) == (twin, len(packed), DOCKER_LAYER_GZIP)


@clause("IMG-049", needs=())
@pytest.mark.parametrize("missing", ["layer", "config", "link"])
def test_a_file_that_is_missing_fails_the_import(ctx, images, tool, missing):
    """Rejects: an image with a hole in it."""
    archive = Archive()
    entry = _saved(archive, _layer())
    if missing == "layer":
        entry["Layers"].append("nope/layer.tar")
    elif missing == "config":
        entry["Config"] = "nope.json"
    else:
        archive.links["s/layer.tar"] = "../zz"
        entry["Layers"].append("s/layer.tar")

    with pytest.raises(ContainerdError):
        tool.load(ctx, archive.docker({**entry, "RepoTags": ["a:1"]}))

    assert images.list(ctx) == []


@clause("IMG-050", needs=CTR)
def test_docker_layers_can_be_compressed_on_the_way_in(
    unleased, content, images, tool, ctr, collect, snapshotter_id, tmp_path
):
    """Rejects: a descriptor that keeps the uncompressed size, or originals that stay for ever."""
    archive = Archive()
    layers = [_layer(), _layer()]
    (tmp_path / "archive.tar").write_bytes(archive.docker({**_saved(archive, *layers), "RepoTags": ["a:1"]}))

    done = ctr(unleased, "images", "import", "--no-unpack", "--compress-blobs", str(tmp_path / "archive.tar"))

    assert done.code == 0, done.err
    (image,) = images.list(unleased)
    found = _document(content, unleased, image.target.digest)["layers"]
    for layer, listed_as in zip(layers, found, strict=True):
        info = content.info(unleased, listed_as["digest"])
        assert (listed_as["mediaType"], listed_as["size"]) == (DOCKER_LAYER_GZIP, info.size)
        assert info.labels[UNCOMPRESSED] == digest_of(layer)
        assert _plain(read(content, unleased, listed_as["digest"])) == layer
    collect(unleased)
    assert not digests(content, unleased) & {digest_of(layer) for layer in layers}
    assert tool.unpack(unleased, image.target, snapshotter_id) == chained(*(digest_of(layer) for layer in layers))


# ------------------------------------------------------------------------------------------------ the collector


@clause("IMG-051", needs=())
def test_an_import_can_be_repeated_and_leaves_no_lease(new_namespace, content, images, leases, tool):
    """Rejects: a second import that fails because the first one succeeded, or work that is held for ever."""
    ctx = new_namespace(lease=False)
    made, archive = simple("a/b:1")
    images.create(ctx, Image("a/b:1", target(), {"mine": "1"}))

    for _ in range(2):
        tool.load(ctx, archive)
        assert [(image.name, image.target.digest) for image in images.list(ctx)] == [("a/b:1", made.manifest.digest)]
        assert gone(leases, content, ctx)


@clause("IMG-051", needs=())
@pytest.mark.parametrize("how", ["no manifest", "cut", "version"])
def test_an_import_that_fails_leaves_no_lease(new_namespace, content, images, leases, tool, how):
    """Rejects: a lease that only a success removes."""
    ctx = new_namespace(lease=False)
    archive = Archive()
    made = archive.image()
    if how == "no manifest":
        del archive.files[archive.path(made.manifest.digest)]
        data = archive.layout(listed(made.manifest, name="a/b:1"))
    else:
        data = _broken(how)

    with pytest.raises(ContainerdError):
        tool.load(ctx, data)

    assert gone(leases, content, ctx)


@clause("IMG-051", needs=())
def test_what_no_image_refers_to_is_collected_after_an_import(new_namespace, content, tool, collect):
    """Rejects: an archive's index, or its other platforms, that stay for ever."""
    ctx = new_namespace(lease=False)
    archive = Archive()
    made, index = _for_three(archive)

    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))
    collect(ctx)

    assert digests(content, ctx) == {index.digest} | made[1].blobs
