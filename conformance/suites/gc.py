"""What the collector takes and what holds: roots, references and leases (GC-004 to 026, 040, 047, 049, 050)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import grpc
import pytest

from conformance import clause
from conformance.suites._content import ROOTED, digest_of, fresh, has, store
from conformance.suites._gc import (
    EXPIRE,
    FLAT,
    NEVER,
    PLAIN,
    REF_CONTENT,
    REF_SNAPSHOT,
    ROOT,
    by_id,
    committed,
    container,
    directories,
    drop,
    eventually,
    exists,
    hours,
    image,
    listening,
    scheduler,
    settle,
    surviving,
    under,
)
from conformance.suites._images import simple, tool
from refimpl.api import sandbox_v1_pb2, sandbox_v1_pb2_grpc, types_pb2
from refimpl.contract.errors import NotFound
from refimpl.contract.leases import Resource
from refimpl.contract.namespaces import Namespace

NO_CHECK = {
    "GC-050": "It says what nobody may rely on, and binds the checks themselves: each works under a lease or on roots.",
}


@pytest.fixture
def blobs(content, ctx):
    """``blobs("a", "b")``: blobs made under the check's lease, by name; ``blobs(a={labels})`` with labels."""

    def make(*names, **labelled):
        return {name: store(content, ctx, fresh(), labelled.get(name)) for name in (*names, *labelled)}

    return make


# ---- what goes


@clause("GC-004")
def test_content_that_nothing_refers_to_goes(unleased, content, leases, collect, under):
    """Rejects: taking only what was referred to once."""
    # Between the end of its lease and the collection nothing ever referred to it.
    digest = store(content, under("setup"), fresh())
    leases.delete_resource(unleased, "setup", Resource(digest, "content"))

    collect(unleased)

    assert not has(content, unleased, digest)
    with pytest.raises(NotFound):
        content.reader(unleased, digest)


@clause("GC-004", needs={"disk"})
def test_the_bytes_of_garbage_go(ctx, content, leases, unleased, subject, drop):
    """Rejects: a record that goes and bytes that stay."""
    digest = store(content, ctx, fresh())
    assert len(list(subject.root.rglob(digest.removeprefix("sha256:")))) == 1

    drop()

    assert list(subject.root.rglob(digest.removeprefix("sha256:"))) == []


@clause("GC-005")
def test_snapshots_that_nothing_refers_to_go_children_first(ctx, unleased, snapshotter, drop):
    """Rejects: a parent that is tried first, so that the child fails and both stay."""
    committed(snapshotter, ctx, "eb")
    committed(snapshotter, ctx, "ec", "eb")
    snapshotter.prepare(ctx, "e2", "ec")
    snapshotter.view(ctx, "e3", "eb")

    drop()

    assert [key for key in ("eb", "ec", "e2", "e3") if exists(snapshotter, unleased, key)] == []
    assert list(snapshotter.walk(unleased)) == []


@clause("GC-005", needs={"disk"})
def test_the_data_of_snapshots_go(ctx, snapshotter, subject, drop):
    """Rejects: a record that goes and a directory that stays."""
    found = directories(subject, snapshotter.prepare(ctx, "eb"))
    snapshotter.commit(ctx, "eb committed", "eb")
    found |= directories(subject, snapshotter.prepare(ctx, "e2", "eb committed"))
    if not found:
        pytest.skip("this snapshotter keeps its data in no directories")
    there = {path for path in found if (subject.root / path).exists()}
    assert there

    drop()

    assert {path for path in there if (subject.root / path).exists()} == set()


@clause("GC-049")
def test_one_collection_covers_all_namespaces(new_namespace, content, leases, namespaces):
    """Rejects: a collection of the caller's namespace alone, and namespaces that go with what was in them."""
    p, q = new_namespace(), new_namespace()
    digest = store(content, p, fresh())
    leases.delete_resource(p, p.lease, Resource(digest, "content"))

    leases.delete(q, q.lease, sync=True)

    assert not has(content, p, digest)
    leases.delete(p, p.lease, sync=True)
    assert {p.namespace, q.namespace} <= {found.name for found in namespaces.list(p)}


# ---- roots


@clause("GC-006")
def test_an_image_holds_its_target_and_all_that_it_leads_to(ctx, unleased, content, images, drop, blobs):
    """Rejects: references that are followed one level deep."""
    made = blobs("d", "z")
    made |= blobs(c={f"{REF_CONTENT}.0": made["d"]})
    made |= blobs(b={f"{REF_CONTENT}.x": made["c"]})
    made |= blobs(a={f"{REF_CONTENT}.0": made["b"]})
    images.create(ctx, image("i1", made["a"]))

    drop()
    assert surviving(content, unleased, made) == {"a", "b", "c", "d"}

    images.delete(unleased, "i1")
    assert eventually(lambda: not surviving(content, unleased, made))


CONTINUATIONS = {
    "": True, ".0": True, ".config": True, "/x": True, ".": True, "/": True, ".m.0.1": True,
    "x": False, "-x": False, "s": False, ":0": False,
}  # fmt: skip


@clause("GC-007")
@pytest.mark.parametrize("holder", ["blob", "snapshot", "image", "container"])
def test_content_is_referred_to_by_label(ctx, unleased, content, snapshotter, images, containers, drop, blobs, holder):
    """Rejects: a prefix test that takes any continuation, an exact comparison, one that ignores case."""
    made = blobs(*CONTINUATIONS, "capitals", "capital")
    labels = {f"{REF_CONTENT}{end}": made[end] for end in CONTINUATIONS}
    labels |= {REF_CONTENT.upper(): made["capitals"], f"{REF_CONTENT.replace('c', 'C', 1)}.0": made["capital"]}
    if holder == "blob":
        store(content, ctx, fresh(), {**ROOTED, **labels})
    elif holder == "snapshot":
        snapshotter.prepare(ctx, "holder", labels={**ROOTED, **labels})
    elif holder == "image":
        images.create(ctx, image("holder", labels=labels))
    else:
        containers.create(ctx, container("holder", labels=labels))

    drop()

    assert surviving(content, unleased, made) == {end for end, refers in CONTINUATIONS.items() if refers}


@clause("GC-008")
def test_snapshots_are_referred_to_by_label(ctx, unleased, content, snapshotter, snapshotter_id, drop):
    """Rejects: a dot that ends the snapshotter's name, one reference for each snapshotter."""
    for key in ("s1", "s2", "s3", "s4", "s5", "s6"):
        committed(snapshotter, ctx, key)
    this = f"{REF_SNAPSHOT}.{snapshotter_id}"
    labels = {this: "s1", f"{this}/x": "s2", f"{this}.x": "s3", REF_SNAPSHOT: "s4", f"{this}/y/z": "s6"}
    store(content, ctx, fresh(), {**ROOTED, **labels})

    drop()

    assert [key.name for key in snapshotter.walk(unleased)] == ["s1", "s2", "s6"]


@clause("GC-009")
def test_a_snapshot_holds_its_parents_and_what_their_labels_name(ctx, unleased, content, snapshotter, drop, blobs):
    """Rejects: labels of ancestors that are not followed, children and siblings that are held."""
    made = blobs("a", "b", "c")
    committed(snapshotter, ctx, "base", labels={f"{REF_CONTENT}.1": made["a"]})
    committed(snapshotter, ctx, "mid", "base", {f"{REF_CONTENT}.1": made["c"]})
    snapshotter.prepare(ctx, "q3", "mid", ROOTED)
    snapshotter.prepare(ctx, "q4", "base", {f"{REF_CONTENT}.1": made["b"]})
    snapshotter.prepare(ctx, "q5", "mid")

    drop()

    assert [info.name for info in snapshotter.walk(unleased)] == ["base", "mid", "q3"]
    assert surviving(content, unleased, made) == {"a", "c"}


@clause("GC-010")
def test_a_container_holds_its_snapshot_and_what_its_labels_name(
    ctx, unleased, content, containers, snapshotter, snapshotter_id, collect, drop, blobs
):
    """Rejects: a container that holds nothing without a running task, or whose labels are not followed."""
    made = blobs("labelled")
    committed(snapshotter, ctx, "layer")
    snapshotter.prepare(ctx, "rootfs", "layer")
    committed(snapshotter, ctx, "lr")
    containers.create(ctx, container("lc", snapshotter=snapshotter_id, snapshot_key="rootfs"))
    labels = {f"{REF_SNAPSHOT}.{snapshotter_id}": "lr", f"{REF_CONTENT}.0": made["labelled"]}
    containers.create(ctx, container("ll", labels=labels))

    drop()
    assert [info.name for info in snapshotter.walk(unleased)] == ["layer", "lr", "rootfs"]
    assert surviving(content, unleased, made) == {"labelled"}

    containers.delete(unleased, "lc")
    assert eventually(lambda: [info.name for info in snapshotter.walk(unleased)] == ["lr"])
    # A deletion must not meet the end of a collection: 1.6 forgets it then, until the next change (GC-032).
    collect(unleased)
    containers.delete(unleased, "ll")
    assert eventually(lambda: not list(snapshotter.walk(unleased)) and not surviving(content, unleased, made))


@clause("GC-011")
def test_labels_of_an_image_are_references(ctx, unleased, content, images, snapshotter, snapshotter_id, drop, blobs):
    """Rejects: a look at the labels of blobs alone."""
    made = blobs("a", "b")
    committed(snapshotter, ctx, "ilc")
    labels = {f"{REF_CONTENT}.0": made["b"], f"{REF_SNAPSHOT}.{snapshotter_id}": "ilc"}
    images.create(ctx, image("i2", made["a"], labels))

    drop()
    assert surviving(content, unleased, made) == {"a", "b"}
    assert exists(snapshotter, unleased, "ilc")

    images.delete(unleased, "i2", sync=True)
    assert surviving(content, unleased, made) == set()
    assert not exists(snapshotter, unleased, "ilc")


@clause("GC-012")
@pytest.mark.parametrize("value", ["1", "0", "false", " ", "2000-01-01T00:00:00Z"], ids=repr)
def test_a_root_label_of_any_value_holds(ctx, unleased, content, snapshotter, drop, blobs, value):
    """Rejects: a value that is read as a boolean or as a time of expiry."""
    made = blobs("next", "alone")
    made |= blobs(root={ROOT: value, f"{REF_CONTENT}.0": made["next"]})
    committed(snapshotter, ctx, "grp")
    snapshotter.prepare(ctx, "gr1", "grp", {ROOT: value})
    snapshotter.prepare(ctx, "gr2", "grp")

    drop()

    assert surviving(content, unleased, made) == {"root", "next"}
    assert [info.name for info in snapshotter.walk(unleased)] == ["gr1", "grp"]


@clause("GC-013")
def test_an_empty_root_label_does_not_hold(ctx, unleased, content, snapshotter, drop):
    """Rejects: a test for the key in the request, whatever its value."""
    digest = store(content, ctx, fresh(), {ROOT: ""})
    snapshotter.prepare(ctx, "gr", labels={ROOT: ""})

    drop()

    assert not has(content, unleased, digest)
    assert not exists(snapshotter, unleased, "gr")


@clause("GC-014")
def test_a_label_like_the_root_label_holds_in_the_next_release_alone(unleased, content, drop, blobs):
    """Rejects: any label that contains the root label, and other capitals."""
    made = blobs(
        rootx={f"{ROOT}x": "1"},
        dotted={f"{ROOT}.foo": "1"},
        capital={"containerd.io/gc.Root": "1"},
        bare={"gc.root": "1"},
        embedded={f"x.{ROOT}": "1"},
    )

    drop()

    assert surviving(content, unleased, made) in (set(), {"rootx", "dotted"})


@clause("GC-015")
def test_leases_are_roots_until_they_expire(own):
    """Rejects: an expired lease that holds, or stays in the list for ever; labels that a flat lease follows."""
    instance = own(config=scheduler(pause_threshold=NEVER))
    settle(instance)
    content, leases = instance.content, instance.leases
    made = {}
    for id, labels in (
        ("plain", {}),
        ("ahead", {EXPIRE: hours(1)}),
        ("past", {EXPIRE: hours(-1)}),
        ("flat", {FLAT: "1"}),
    ):
        leases.create(PLAIN, id, labels)
        # Made first, so it is on no lease when the collection comes.
        made[f"next of {id}"] = store(content, PLAIN, fresh())
        reference = {f"{REF_CONTENT}.0": made[f"next of {id}"]}
        made[f"on {id}"] = store(content, PLAIN.with_lease(id), fresh(), reference)

    settle(instance)

    assert set(by_id(leases, PLAIN)) == {"plain", "ahead", "flat"}
    assert surviving(content, PLAIN, made) == {"on plain", "next of plain", "on ahead", "next of ahead", "on flat"}


# ---- what is no reference


@clause("GC-016")
def test_circles_of_references_do_not_hold_themselves(ctx, unleased, content, drop):
    """Rejects: counting references."""
    first, second, alone = fresh(), fresh(), fresh()
    made = {
        "first": store(content, ctx, first, {f"{REF_CONTENT}.0": digest_of(second)}),
        "second": store(content, ctx, second, {f"{REF_CONTENT}.0": digest_of(first)}),
        "alone": store(content, ctx, alone, {f"{REF_CONTENT}.0": digest_of(alone)}),
    }

    drop()

    assert surviving(content, unleased, made) == set()


@clause("GC-016")
def test_circles_of_references_are_walked_once(ctx, unleased, content, drop):
    """Rejects: a collector that never comes to the end of a circle."""
    first, second = fresh(), fresh()
    made = {
        "first": store(content, ctx, first, {**ROOTED, f"{REF_CONTENT}.0": digest_of(second)}),
        "second": store(
            content, ctx, second, {f"{REF_CONTENT}.0": digest_of(first), f"{REF_CONTENT}.1": digest_of(second)}
        ),
    }

    drop()

    assert surviving(content, unleased, made) == {"first", "second"}


@clause("GC-017")
def test_references_to_nothing_are_harmless(ctx, unleased, content, images, collect, drop, blobs):
    """Rejects: a collection that fails at the first bad reference, or what it names coming into being."""
    labels = {
        REF_CONTENT: f"sha256:{64 * '0'}",
        f"{REF_CONTENT}.1": "garbage",
        f"{REF_SNAPSHOT}.nosuch": "x",
        f"{REF_SNAPSHOT}.": "y",
    }
    made = blobs("garbage", root={**ROOTED, **labels})
    images.create(ctx, image("dangling"))

    drop()
    collect(unleased)

    assert surviving(content, unleased, made) == {"root"}
    assert [info.digest for info in content.walk(unleased)] == [made["root"]]
    assert [found.name for found in images.list(unleased)] == ["dangling"]


@clause("GC-018")
def test_references_end_at_the_namespace(new_namespace, content, leases):
    """Rejects: looking a digest up where all namespaces share it."""
    first, second, data = new_namespace(), new_namespace(), fresh()
    digest = store(content, first, data)
    store(content, second, fresh(), {**ROOTED, f"{REF_CONTENT}.0": digest})

    leases.delete(first, first.lease, sync=True)

    assert not has(content, first, digest)


@clause("GC-020")
def test_other_fields_and_labels_are_no_references(ctx, unleased, content, containers, leases, namespaces, drop, blobs):
    """Rejects: any digest in any record taken for a reference."""
    made = blobs("container's image", "container's annotation", "lease's label", "namespace's label")
    containers.create(ctx, container("c1", image=made["container's image"]))
    containers.create(ctx, container("c2", labels={"image": made["container's annotation"]}))
    leases.create(unleased, "other", {f"{REF_CONTENT}.0": made["lease's label"]})
    labels = {REF_CONTENT: made["namespace's label"]}
    namespaces.update(unleased, Namespace(ctx.namespace, labels), [f"labels.{REF_CONTENT}"])

    drop()

    assert surviving(content, unleased, made) == set()


@clause("GC-020")
@pytest.mark.parametrize("expiry", [hours(1 / 6), "2999-01-01T00:00:00Z"], ids=["minutes", "centuries"])
def test_an_expiry_ahead_protects_neither_content_nor_snapshots(
    unleased, ctx, content, snapshotter, drop, blobs, expiry
):
    """Rejects: a future expiry on content or a snapshot taken for protection until then."""
    made = blobs(ahead={EXPIRE: expiry})
    snapshotter.prepare(ctx, "ahead", labels={EXPIRE: expiry})

    drop()

    assert surviving(content, unleased, made) == set()
    assert not exists(snapshotter, unleased, "ahead")


@clause("GC-020")
def test_a_past_expiry_takes_no_protection_away(
    unleased, ctx, content, containers, snapshotter, snapshotter_id, drop, blobs
):
    """Rejects: an expiry that ends a root or a container."""
    made = blobs(rooted={**ROOTED, EXPIRE: hours(-1)})
    snapshotter.prepare(ctx, "rooted", labels={**ROOTED, EXPIRE: hours(-1)})
    snapshotter.prepare(ctx, "rootfs")
    containers.create(
        ctx, container("c", labels={EXPIRE: hours(-1)}, snapshotter=snapshotter_id, snapshot_key="rootfs")
    )

    drop()

    assert surviving(content, unleased, made) == {"rooted"}
    assert [info.name for info in snapshotter.walk(unleased)] == ["rooted", "rootfs"]
    assert [found.id for found in containers.list(unleased)] == ["c"]


@clause("GC-020")
def test_a_root_label_counts_on_content_and_snapshots_alone(ctx, unleased, images, leases, collect):
    """Rejects: a root label that keeps an expired lease."""
    leases.create(unleased, "past", {ROOT: "1", EXPIRE: hours(-1)})

    collect(unleased)

    assert "past" not in by_id(leases, unleased)


@clause("GC-021")
def test_empty_and_dangling_records_are_not_collected(new_namespace, containers, images, leases, namespaces, collect):
    """Rejects: images whose content is missing, namespaces without objects, leases without entries being pruned."""
    ctx, bare = new_namespace(lease=False), new_namespace(lease=False)
    containers.create(ctx, container("c"))
    images.create(ctx, image("dangling"))
    leases.create(ctx, "keep")
    images.create(bare, image("last object"))
    images.delete(bare, "last object", sync=True)

    for _ in range(3):
        collect(ctx)

    assert [found.id for found in containers.list(ctx)] == ["c"]
    assert [found.name for found in images.list(ctx)] == ["dangling"]
    assert set(by_id(leases, ctx)) == {"keep"}
    assert {ctx.namespace, bare.namespace} <= {found.name for found in namespaces.list(ctx)}


# ---- the next release


@clause("GC-022")
def test_images_expire_in_the_next_release_alone(ctx, unleased, content, images, events, drop, blobs):
    """Rejects: an expiry that cannot be read taken for one that has passed, a removal that nobody is told of."""
    made = blobs("exp", "exp2", "exp3")
    with listening(events, unleased) as heard:
        for name, expiry in (("exp", hours(-1 / 60)), ("exp2", hours(1 / 6)), ("exp3", "bogus")):
            images.create(ctx, image(name, made[name], {EXPIRE: expiry}))
        drop()
        topics = heard.topics()

    left = {found.name for found in images.list(unleased)}
    assert left in ({"exp", "exp2", "exp3"}, {"exp2", "exp3"})
    assert surviving(content, unleased, made) == left
    assert topics["/images/delete"] == 3 - len(left)


def expires(images, unleased, collect):
    """Whether images expire here at all."""
    images.create(unleased, image("probe", labels={EXPIRE: hours(-1)}))
    collect(unleased)
    return "probe" not in {found.name for found in images.list(unleased)}


@clause("GC-023")
def test_an_image_can_be_referred_to(ctx, unleased, content, images, collect, drop, blobs):
    """Rejects: a reference to an image taken for a digest."""
    if not expires(images, unleased, collect):
        pytest.skip("images do not expire before 2.x, and stay whatever refers to them")
    made = blobs("a")
    images.create(ctx, image("parent", labels={"containerd.io/gc.ref.image.0": "exp5"}))
    images.create(ctx, image("exp5", made["a"], {EXPIRE: hours(-1)}))

    drop()
    assert {found.name for found in images.list(unleased)} == {"parent", "exp5"}
    assert surviving(content, unleased, made) == {"a"}

    images.delete(unleased, "parent", sync=True)
    assert images.list(unleased) == []


@clause("GC-024")
def test_back_references_hold_in_the_next_release_alone(
    ctx, unleased, content, images, containers, snapshotter, snapshotter_id, collect, drop, blobs
):
    """Rejects: a back reference that holds although what it names does not exist, or is not reachable."""
    images.create(ctx, image("bi"))
    containers.create(ctx, container("bc"))
    committed(snapshotter, ctx, "bs", labels=ROOTED)
    root = blobs(r=ROOTED)["r"]
    bref = "containerd.io/gc.bref"
    made = blobs(
        image={f"{bref}.image": "bi"},
        image0={f"{bref}.image.0": "bi"},
        container={f"{bref}.container": "bc"},
        content={f"{bref}.content": root},
        contentz={f"{bref}.content/z": root},
        snapshot={f"{bref}.snapshot.{snapshotter_id}": "bs"},
        nosuch={f"{bref}.image": "nosuch"},
        imagex={f"{bref}.imagex": "bi"},
    )
    snapshotter.prepare(ctx, "bsn", labels={f"{bref}.container": "bc"})

    drop()

    left = surviving(content, unleased, made)
    if not left:
        assert not exists(snapshotter, unleased, "bsn"), "the labels mean nothing before 2.x, on snapshots too"
        return
    assert left == {"image", "image0", "container", "content", "contentz", "snapshot"}
    assert exists(snapshotter, unleased, "bsn")
    images.delete(unleased, "bi", sync=True)
    assert surviving(content, unleased, made) == {"container", "content", "contentz", "snapshot"}
    containers.delete(unleased, "bc")
    collect(unleased)
    assert surviving(content, unleased, made) == {"content", "contentz", "snapshot"}
    assert not exists(snapshotter, unleased, "bsn")


CONDITIONS = {
    "young": ("usedat<1h", 10 / 3600, True),
    "too old": ("usedat<1h", 2, False),
    "old": ("usedat>1h", 2, True),
    "at most": ("usedat<=1h", 10 / 3600, False),
    "exactly": ("usedat=1h", 10 / 3600, False),
    "unknown": ("bogus<1h", 10 / 3600, False),
    "alternative": ("usedat<1h,bogus=1", 10 / 3600, True),
}


@clause("GC-025")
def test_references_on_a_condition_hold_in_the_next_release_alone(
    ctx, unleased, content, snapshotter, snapshotter_id, drop
):
    """Rejects: conditions that all have to hold, and unknown ones that do."""
    for key, (condition, age, _) in CONDITIONS.items():
        committed(snapshotter, ctx, key, labels={"containerd.io/gc.cond.value-usedat": hours(-age)})
        reference = {f"containerd.io/gc.cond.snapshot.{snapshotter_id}": f"{condition}|{key}"}
        store(content, ctx, fresh(), {**ROOTED, **reference})

    drop()

    left = {info.name for info in snapshotter.walk(unleased)}
    assert left in (set(), {key for key, (_, _, holds) in CONDITIONS.items() if holds})


@clause("GC-026", needs={"wire"})
def test_labels_of_a_sandbox_are_references(ctx, unleased, content, subject, drop, blobs):
    """Rejects: a look for roots that leaves the sandboxes out."""
    made = blobs("x")
    runtime = types_pb2.Sandbox.Runtime(name="io.containerd.runc.v2")
    sandbox = types_pb2.Sandbox(sandbox_id="s1", runtime=runtime, labels={REF_CONTENT: made["x"]})
    with grpc.insecure_channel(f"unix:{subject.address}", options=[("grpc.default_authority", "localhost")]) as channel:
        stub = sandbox_v1_pb2_grpc.StoreStub(channel)
        headers = (("containerd-namespace", ctx.namespace),)
        try:
            stub.Create(sandbox_v1_pb2.StoreCreateRequest(sandbox=sandbox), metadata=headers, timeout=5)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                pytest.skip("there is no store of sandboxes before 2.x")
            raise
        try:
            drop()
            assert surviving(content, unleased, made) == {"x"}
        finally:
            stub.Delete(sandbox_v1_pb2.StoreDeleteRequest(sandbox_id="s1"), metadata=headers, timeout=5)


# ---- events, and the labels that images have


@clause("GC-040")
def test_a_collection_tells_what_its_release_tells(ctx, unleased, content, events, snapshotter, drop, blobs):
    """Rejects: 1.6 telling of removed snapshots, 2.x telling of removed content."""
    with listening(events, unleased) as heard:
        committed(snapshotter, ctx, "eb")
        snapshotter.prepare(ctx, "e2", "eb")
        blobs("a")
        before = heard.topics()
    with listening(events, unleased) as heard:
        drop()
        assert not exists(snapshotter, unleased, "eb")
        assert heard.topics() in ({}, {"/snapshot/remove": 2})
    assert before["/snapshot/prepare"] == 2, "the setup was heard"


@clause("GC-047")
def test_an_unpacked_image_stays_by_its_labels(
    unleased, content, images, leases, snapshotter, snapshotter_id, collect, tool
):
    """Rejects: a collector that does not follow the config to the snapshots."""
    name = "conformance.invalid/unpacked:1"
    made, archive = simple(name)
    before = by_id(leases, unleased)
    tool.load(unleased, archive)
    top = tool.unpack(unleased, made.manifest, snapshotter_id)
    assert by_id(leases, unleased) == before, "labels alone hold it"

    labels = content.info(unleased, made.manifest.digest).labels
    assert labels[f"{REF_CONTENT}.config"] == made.config.digest
    layers = [labels[f"{REF_CONTENT}.l.{number}"] for number in range(len(made.layers))]
    assert layers == [layer.blob.digest for layer in made.layers]
    assert (
        content.info(unleased, made.config.digest).labels[f"{REF_SNAPSHOT}.{snapshotter_id}"] == top == made.chain[-1]
    )

    collect(unleased)
    assert {info.digest for info in content.walk(unleased)} >= made.blobs
    assert {info.name for info in snapshotter.walk(unleased)} == set(made.chain)

    images.delete(unleased, name, sync=True)
    assert list(content.walk(unleased)) == []
    assert list(snapshotter.walk(unleased)) == []
