"""Images, the way out: archives that others can read, and what becomes of whole images (IMG-052 to IMG-062).

As in ``images_import``, these clauses bind the client as much as the daemon.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from conformance import clause
from conformance.suites._content import digest_of, fresh, has
from conformance.suites._images import (
    GC_CONTENT,
    LAYER_GZIP,
    NAME,
    REF,
    Archive,
    ctr,  # a fixture
    digests,
    exists,
    listed,
    names,
    other_platforms,
    simple,
    target,
    tool,  # a fixture
    tree,
    untarred,
)
from refimpl.client.manifests import OCI_INDEX
from refimpl.client.platforms import host
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound
from refimpl.contract.images import Image

CTR = {"ctr", "wire"}

HAND = "docker.io/library/hand:latest"

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def _path(digest):
    return f"blobs/{digest.replace(':', '/')}"


def _document(found, name):
    return json.loads(found[name][1])


def _three(archive):
    """Images for two other platforms and for this machine, and an index over them."""
    platforms = [other_platforms()[0], host(), other_platforms()[1]]
    made = [archive.image(platform=platform) for platform in platforms]
    return made, archive.index(*(listed(m.manifest, p) for m, p in zip(made, platforms, strict=True)))


# ------------------------------------------------------------------------------------------------ export


@clause("IMG-052", needs=())
def test_an_exported_archive_has_a_fixed_shape(ctx, tool):
    """Rejects: times, owners or an order of the day, or blobs under the wrong names."""
    made, archive = simple(HAND)
    tool.load(ctx, archive)

    found = untarred(tool.save(ctx, HAND))

    modes = {"blobs": 0o755, "blobs/sha256": 0o755, "index.json": 0o644, "manifest.json": 0o644, "oci-layout": 0o444}
    modes |= {_path(digest): 0o444 for digest in made.blobs}
    assert {name: member.mode for name, (member, _) in found.items()} == modes
    assert list(found) == sorted(found)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m, _ in found.values()} == {(0, 0, 0, "", "")}
    assert {name for name, (member, _) in found.items() if member.isdir()} == {"blobs", "blobs/sha256"}
    assert {digest_of(data) for name, (_, data) in found.items() if name.startswith("blobs/sha256/")} == made.blobs
    assert all(_path(digest_of(data)) == name for name, (_, data) in found.items() if name.startswith("blobs/sha256/"))
    assert _document(found, "oci-layout") == {"imageLayoutVersion": "1.0.0"}


@clause("IMG-052", needs=())
def test_an_export_is_the_same_every_time(ctx, tool):
    """Rejects: archives that differ though nothing changed."""
    tool.load(ctx, simple(HAND)[1])

    assert tool.save(ctx, HAND) == tool.save(ctx, HAND)


@clause("IMG-052", needs=())
def test_what_was_exported_can_be_imported_elsewhere(ctx, new_namespace, content, tool, snapshotter_id):
    """Rejects: an archive that lacks something."""
    made, archive = simple(HAND)
    tool.load(ctx, archive)
    data, there = tool.save(ctx, HAND), new_namespace()

    (again,) = tool.load(there, data)

    assert (again.name, again.target.digest) == (HAND, made.manifest.digest)
    assert made.blobs <= digests(content, there)
    assert tool.unpack(there, again.target, snapshotter_id) == made.chain[-1]


@clause("IMG-053", needs=())
def test_the_index_names_every_image(ctx, images, tool):
    """Rejects: the whole reference as ``ref.name``, or one entry for two names."""
    made, archive = simple("docker.io/library/n1:1")
    tool.load(ctx, archive)
    pinned = f"docker.io/library/n3@{made.manifest.digest}"
    others = ["docker.io/library/n2:2", "reg.example:5000/n4:four", pinned]
    for name in others:
        images.create(ctx, Image(name, made.manifest))

    index = _document(untarred(tool.save(ctx, "docker.io/library/n1:1", *others)), "index.json")

    assert index["schemaVersion"] == 2
    assert index.get("mediaType", OCI_INDEX) == OCI_INDEX
    refs = {"docker.io/library/n1:1": "1", others[0]: "2", others[1]: "four", pinned: f"@{made.manifest.digest}"}
    assert index["manifests"] == [listed(made.manifest, name=name, ref=ref) for name, ref in refs.items()]


@clause("IMG-054", needs=())
def test_manifest_json_makes_the_archive_loadable_by_docker(ctx, tool):
    """Rejects: bare digests for paths, or names that Docker shows in another form."""
    made, archive = simple(HAND)
    tool.load(ctx, archive)

    found = untarred(tool.save(ctx, HAND))

    (entry,) = _document(found, "manifest.json")
    assert entry == {
        "Config": _path(made.config.digest),
        "RepoTags": ["hand:latest"],
        "Layers": [_path(layer.blob.digest) for layer in made.layers],
    }
    assert {entry["Config"], *entry["Layers"]} <= set(found)


@clause("IMG-054", needs=())
def test_manifest_json_has_one_entry_for_a_manifest_with_two_names(ctx, images, tool):
    """Rejects: the same image twice, or the last of its names alone."""
    archive = Archive()
    made, other = archive.image(), archive.image()
    tool.load(
        ctx, archive.layout(listed(made.manifest, name="docker.io/library/n1:1"), listed(other.manifest, name="o:1"))
    )
    images.create(ctx, Image("docker.io/library/n2:2", made.manifest))

    found = untarred(tool.save(ctx, "docker.io/library/n1:1", "docker.io/library/n2:2", "o:1"))

    entries = _document(found, "manifest.json")
    assert len(entries) == 2
    assert {entry["Config"]: entry["RepoTags"] for entry in entries} == {
        _path(made.config.digest): ["n1:1", "n2:2"],
        _path(other.config.digest): ["o:1"],
    }


@clause("IMG-055", needs=CTR)
def test_manifest_json_can_be_left_out(ctx, tool, ctr, tmp_path):
    """Rejects: a flag that drops the index along with it."""
    archive = Archive()
    made = archive.image()
    index = archive.index(listed(made.manifest, host()))
    tool.load(ctx, archive.layout(listed(made.manifest, name="plain:1"), listed(index, name="index:1")))

    for name in ("plain:1", "index:1"):
        out = tmp_path / f"{name}.tar"
        done = ctr(ctx, "images", "export", "--skip-manifest-json", str(out), name)
        assert done.code == 0, done.err
        found = untarred(out.read_bytes())
        assert "index.json" in found
        assert made.blobs <= {digest_of(data) for _, data in found.values()}
        if name == "plain:1" and "manifest.json" in found:
            # 1.6 heeds the flag for indexes only.
            assert not any(entry.get("RepoTags") for entry in _document(found, "manifest.json"))
        else:
            assert "manifest.json" not in found


@clause("IMG-056", needs=())
def test_an_index_is_exported_whole_with_the_content_of_one_platform(ctx, tool):
    """Rejects: an index rewritten for what goes along, or content of platforms that nobody asked for."""
    archive = Archive()
    made, index = _three(archive)
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), all_platforms=True)

    found = untarred(tool.save(ctx, "a/b:1"))

    blobs = {digest_of(data) for name, (_, data) in found.items() if name.startswith("blobs/sha256/")}
    assert blobs == made[1].blobs | {index.digest}
    (entry,) = _document(found, "index.json")["manifests"]
    assert (entry["digest"], entry["mediaType"]) == (index.digest, OCI_INDEX)
    other = {
        digest_of(data) for _, data in untarred(tool.save(ctx, "a/b:1", platform=str(other_platforms()[0]))).values()
    }
    assert made[0].blobs | {index.digest} <= other
    assert not other & made[1].blobs


@clause("IMG-056", needs=())
def test_all_platforms_can_be_exported(ctx, tool):
    """Rejects: a ``manifest.json`` for a machine that is not the exporting one."""
    archive = Archive()
    made, index = _three(archive)
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")), all_platforms=True)

    found = untarred(tool.save(ctx, "a/b:1", all_platforms=True))

    blobs = {digest_of(data) for name, (_, data) in found.items() if name.startswith("blobs/sha256/")}
    assert blobs == {index.digest}.union(*(m.blobs for m in made))
    (entry,) = _document(found, "manifest.json")
    assert entry["Config"] == _path(made[1].config.digest)


@clause("IMG-056", needs=())
def test_an_export_insists_on_the_content_of_a_platform(new_namespace, content, tool, collect):
    """Rejects: a platform that is left out in silence because its content is not there."""
    ctx = new_namespace(lease=False)
    archive = Archive()
    made, index = _three(archive)
    tool.load(ctx, archive.layout(listed(index, name="a/b:1")))
    collect(ctx)
    assert not has(content, ctx, made[0].manifest.digest), "only this machine's platform is kept"

    assert tool.save(ctx, "a/b:1")
    for wish in ({"all_platforms": True}, {"platform": str(other_platforms()[0])}, {"platform": "linux/mips"}):
        with pytest.raises(NotFound):
            tool.save(ctx, "a/b:1", **wish)


@clause("IMG-056", needs=())
def test_an_export_insists_on_every_layer(ctx, content, tool):
    """Rejects: an archive with a hole in it."""
    made, archive = simple("a/b:1")
    tool.load(ctx, archive)
    content.delete(ctx, made.layers[1].blob.digest)

    with pytest.raises(NotFound):
        tool.save(ctx, "a/b:1")


@clause("IMG-057", needs=())
def test_an_unknown_image_cannot_be_exported(ctx, tool):
    """Rejects: an archive of nothing."""
    tool.load(ctx, simple("a/b:1")[1])

    with pytest.raises(NotFound):
        tool.save(ctx, "a/b:1", "nope")


@clause("IMG-057", needs=())
def test_an_image_of_something_else_cannot_be_exported(ctx, images, tool, blob):
    """Rejects: an archive whose index points at what no client can read."""
    data = fresh()
    images.create(ctx, Image("text:1", target(digest=blob(data), size=len(data), media_type="text/plain")))

    with pytest.raises(InvalidArgument):
        tool.save(ctx, "text:1")


def _not_distributable():
    archive = Archive()
    made = archive.image(archive.layer(FOREIGN), archive.layer(FOREIGN))
    return made, archive.layout(listed(made.manifest, name="a/b:1"))


@clause("IMG-058", needs=())
def test_layers_that_are_not_distributable_are_layers(ctx, content, tool, snapshotter, snapshotter_id):
    """Rejects: layers that are labelled or unpacked only where their type is a common one."""
    made, archive = _not_distributable()
    tool.load(ctx, archive)

    labels = content.info(ctx, made.manifest.digest).labels
    assert [labels.get(f"{GC_CONTENT}.l.{n}") for n in (0, 1)] == [layer.blob.digest for layer in made.layers]
    assert tool.unpack(ctx, made.manifest, snapshotter_id) == made.chain[-1]
    assert set(tree(snapshotter, ctx)) == set(made.chain)


@clause("IMG-058", needs=CTR)
def test_layers_that_are_not_distributable_can_be_left_out(ctx, tool, ctr, tmp_path):
    """Rejects: a manifest that is rewritten for what was left out."""
    made, archive = _not_distributable()
    tool.load(ctx, archive)

    done = ctr(ctx, "images", "export", "--skip-non-distributable", str(tmp_path / "out.tar"), "a/b:1")

    assert done.code == 0, done.err
    found = untarred((tmp_path / "out.tar").read_bytes())
    assert len(found) == 7
    blobs = {digest_of(data) for name, (_, data) in found.items() if name.startswith("blobs/sha256/")}
    assert blobs == {made.manifest.digest, made.config.digest}


# ------------------------------------------------------------------------------------------------ names, removal


@clause("IMG-060", needs=())
def test_a_tag_is_a_second_record_of_the_same_target(ctx, images, tool):
    """Rejects: a tag that replaces an image of that name unasked."""
    one, other = (images.create(ctx, Image(name, target(annotations={"an": name}))) for name in ("a:1", "b:1"))

    assert tool.tag(ctx, "a:1", "new:1").target == one.target
    assert images.get(ctx, "new:1").target == one.target
    with pytest.raises(AlreadyExists):
        tool.tag(ctx, "b:1", "new:1")
    assert images.get(ctx, "new:1").target == one.target

    assert tool.tag(ctx, "b:1", "new:1", force=True).target == other.target
    assert names(images, ctx) == ["a:1", "b:1", "new:1"]
    with pytest.raises(NotFound):
        tool.tag(ctx, "nope", "other:1")


@clause("IMG-060", needs=CTR)
def test_the_command_tags_and_labels(ctx, images, ctr):
    """Rejects: a tag that overwrites without ``--force``, or a label that stays with an empty value."""
    one, other = (images.create(ctx, Image(name, target())) for name in ("a:1", "b:1"))

    assert ctr(ctx, "images", "tag", "a:1", "new:1").code == 0
    assert ctr(ctx, "images", "tag", "b:1", "new:1").code == 1
    assert images.get(ctx, "new:1").target == one.target
    assert ctr(ctx, "images", "tag", "--force", "b:1", "new:1").code == 0
    assert images.get(ctx, "new:1").target == other.target

    assert ctr(ctx, "images", "label", "a:1", "k=v").code == 0
    assert dict(images.get(ctx, "a:1").labels) == {"k": "v"}
    assert ctr(ctx, "images", "label", "a:1", "k=").code == 0
    assert dict(images.get(ctx, "a:1").labels) == {}


@clause("IMG-061", needs=())
def test_the_last_name_frees_blobs_and_snapshots(unleased, content, images, tool, snapshotter, snapshotter_id):
    """Rejects: snapshots that stay because nothing follows the label of the config."""
    made, archive = simple("one:1")
    tool.load(unleased, archive)
    images.create(unleased, Image("two:1", made.manifest))
    tool.unpack(unleased, made.manifest, snapshotter_id)

    images.delete(unleased, "one:1", sync=True)
    assert made.blobs <= digests(content, unleased)
    assert set(tree(snapshotter, unleased)) == set(made.chain)

    images.delete(unleased, "two:1", sync=True)
    assert digests(content, unleased) == set()
    assert tree(snapshotter, unleased) == {}


@clause("IMG-061", needs=())
def test_what_another_image_shares_stays(unleased, content, images, tool, snapshotter, snapshotter_id):
    """Rejects: a removal that takes the layers of the image along, whoever else stands on them."""
    archive = Archive()
    one = archive.image()
    other = archive.image(one.layers[0], archive.layer())
    for image in tool.load(
        unleased, archive.layout(listed(one.manifest, name="one"), listed(other.manifest, name="other"))
    ):
        tool.unpack(unleased, image.target, snapshotter_id)

    images.delete(unleased, "one", sync=True)

    assert set(tree(snapshotter, unleased)) == set(other.chain)
    assert digests(content, unleased) == other.blobs


@clause("IMG-061", needs=CTR)
def test_removing_an_unknown_name_is_no_failure(ctx, images, ctr):
    """Rejects: scripts that stop at an image which is gone already."""
    images.create(ctx, Image("a:1", target()))

    assert ctr(ctx, "images", "rm", "nope").code == 0
    assert names(images, ctx) == ["a:1"]


@clause("IMG-062", needs=())
def test_an_image_is_complete_when_config_and_layers_are_here(ctx, content, tool, snapshotter, snapshotter_id):
    """Rejects: a look at the manifest alone."""
    made, archive = simple("a/b:1")
    tool.load(ctx, archive)
    assert tool.completeness(ctx, "a/b:1") == (3, 3)
    assert tool.unpack(ctx, made.manifest, snapshotter_id) in tree(snapshotter, ctx)

    content.delete(ctx, made.layers[0].blob.digest)
    assert tool.completeness(ctx, "a/b:1") == (2, 3)
    content.delete(ctx, made.layers[1].blob.digest)
    assert tool.completeness(ctx, "a/b:1") == (1, 3)


@clause("IMG-062", needs=CTR)
def test_the_command_tells_complete_images_from_others(ctx, content, tool, ctr, snapshotters):
    """Rejects: an image called complete, or unpacked, for what it once was."""
    made, archive = simple("a/b:1")
    tool.load(ctx, archive)

    def check():
        return ctr(ctx, "images", "check", "name==a/b:1").out.splitlines()[-1].split()

    assert "complete (3/3)" in " ".join(check())
    assert check()[-1] == "false", "not unpacked yet"
    tool.unpack(ctx, made.manifest, "overlayfs")
    assert check()[-1] == "true"
    content.delete(ctx, made.layers[0].blob.digest)
    assert "incomplete (2/3)" in " ".join(check())
