"""Mutants of images: records that are kept wrongly, and clients that make the wrong ones of archives.

Half of the clauses bind the client. Their mutants are planted in the client that the suite itself works with
(``client``: ``conformance.suites._images.Tool``), or where the daemon sees what such a client would do.
"""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc

from conformance.mutants.engine import change, mutant, mutants
from conformance.mutants.shapes import always_fails, answers, answers_with, argument, does_nothing, drops, silent
from conformance.suites._content import digest_of
from conformance.suites._images import GC_CONTENT, GC_SNAPSHOT, NAME, REF, UNCOMPRESSED, exists, tarred, untarred
from refimpl.api import images_v1_pb2 as pb
from refimpl.client.manifests import INDEXES, OCI_INDEX, OCI_MANIFEST, children, choose, config_of
from refimpl.client.platforms import Choice, host
from refimpl.client.references import familiar
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.images import Image
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor, Platform, TypedAny

Method = Callable[..., Any]
Members = list[tuple[tarfile.TarInfo, bytes]]

LONGEST = 4096
"""Bytes of a label, key and value together."""


def whose(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


# ------------------------------------------------------------------------------------------------ records


@mutant("IMG-001", "created_at is taken from the request", at="metadata.images", method="create")
def _takes_times(original: Method, ctx: CallContext, image: Image) -> Any:
    made = original(ctx, image)
    return replace(made, created_at=image.created_at or made.created_at)


@mutant("IMG-001", "the answer echoes labels that were not stored", at="metadata.images", method="create")
def _echoes(original: Method, ctx: CallContext, image: Image) -> Any:
    return replace(original(ctx, image), labels=image.labels)


@mutant("IMG-002", "create on an existing name overwrites the target", at="metadata.images", method="create")
def _overwrites(original: Method, ctx: CallContext, image: Image) -> Any:
    try:
        return original(ctx, image)
    except AlreadyExists:
        return whose(original).update(ctx, image)


@mutant("IMG-002", "the name is looked up in one step and written in another", at="service.images", method="create")
def _races(original: Method, ctx: CallContext, image: Image) -> Any:
    images = whose(original)
    if exists(images, ctx, image.name):
        raise AlreadyExists(f'image "{image.name}"')
    time.sleep(0.02)
    try:
        return original(ctx, image)
    except AlreadyExists:
        return images.update(ctx, image)


@mutant("IMG-003", "names are validated as registry references", at="metadata.images", method="create")
def _parses_names(original: Method, ctx: CallContext, image: Image) -> Any:
    if not re.fullmatch(r"[a-z0-9./_-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", image.name) or image.name.startswith(
        "sha256:"
    ):
        raise InvalidArgument(f'image name "{image.name}"')
    return original(ctx, image)


@mutant("IMG-004", "a malformed digest is refused by nobody", at="metadata.images", method="create")
def _any_digest(original: Method, ctx: CallContext, image: Image) -> Any:
    try:
        return original(ctx, image)
    except InvalidArgument:
        return original(
            ctx, replace(image, target=replace(image.target, digest=digest_of(image.target.digest.encode())))
        )


@mutant("IMG-005", "the label limit is applied to annotations", at="metadata.images", method="create")
def _limits_annotations(original: Method, ctx: CallContext, image: Image) -> Any:
    if any(len(k) + len(v) > LONGEST for k, v in image.target.annotations.items()):
        raise InvalidArgument("annotation too long")
    return original(ctx, image)


@mutant("IMG-005", "the limit holds for the value without its key", at="metadata.images", method="create")
def _limits_values(original: Method, ctx: CallContext, image: Image) -> Any:
    cut = {k: v[: LONGEST - len(k)] if len(v) <= LONGEST else v for k, v in image.labels.items()}
    return original(ctx, replace(image, labels=cut))


@mutant("IMG-006", "create looks for content that it does not find", at="metadata.images", method="create")
def _wants_content(_original: Method, _ctx: CallContext, image: Image) -> Any:
    raise NotFound(f"content {image.target.digest}")


@mutant("IMG-007", "names are normalised as docker does", at="metadata.images", method="get")
def _normalises(original: Method, ctx: CallContext, name: str) -> Any:
    for tried in (name, f"docker.io/library/{name}", name.lower(), f"{name}:1"):
        with suppress(NotFound):
            return original(ctx, tried)
    raise NotFound(f'image "{name}"')


@mutant("IMG-015", "an empty mask changes nothing", at="grpc.images", method="Update")
def _ignores_empty_masks(original: Method, request: Any, context: Any) -> Any:
    if request.HasField("update_mask") and not request.update_mask.paths:
        return pb.UpdateImageResponse(image=request.image)
    return original(request, context)


def _filters(edit: Callable[[str], str]) -> Method:
    return argument(1, lambda filters: [edit(text) for text in filters])


def _all_must_hold(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    found = [{image.name for image in original(ctx, [text])} for text in filters] or [set()]
    return [image for image in original(ctx) if image.name in set.intersection(*found) or not filters]


def _refuses_unknown_namespaces(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    found = original(ctx, filters)
    if not found and not filters:
        raise NotFound(f"namespace {ctx.namespace}")
    return found


def _misspelt(text: str) -> str:
    return text.replace("target.mediatype", "none").replace("target.media_type", "target.mediatype")


def _upserts(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    try:
        return original(ctx, image, paths)
    except NotFound:
        return whose(original).create(ctx, image)


mutants(
    "metadata.images",
    {
        "IMG-003": ("an empty name is stored", {"create": argument(1, lambda i: replace(i, name=i.name or "<none>"))}),
        "IMG-004": (
            "a size of 0 is accepted",
            {"create": argument(1, lambda i: replace(i, target=replace(i.target, size=i.target.size or 1)))},
        ),
        "IMG-008": (
            "images are listed in the order of creation",
            {"list": answers(lambda found: sorted(found, key=lambda image: image.created_at))},
        ),
        "IMG-009": (
            "a regular expression is anchored at both ends",
            {"list": _filters(lambda text: re.sub(r'~=([^"].*)', r"~=^\1$", text))},
        ),
        "IMG-010": ("the field is spelled target.media_type", {"list": _filters(_misspelt)}),
        "IMG-011": ("a filter that does not parse yields an empty list", {"list": silent(InvalidArgument, answer=[])}),
        "IMG-017": ("update creates what it does not find", {"update": _upserts}),
        "IMG-019": ("deleting an unknown image is no error", {"delete": silent(NotFound)}),
    },
)
mutants("service.images", {"IMG-008": ("an unknown namespace is not found", {"list": _refuses_unknown_namespaces})})
mutants("service.images", {"IMG-011": ("all of several filters must hold", {"list": _all_must_hold})})
mutants(
    "service.images",
    {"IMG-010": ("sizes can be compared", {"list": _filters(lambda text: "name" if "size" in text else text)})},
)


# ------------------------------------------------------------------------------------------------ update


@mutant(
    "IMG-012",
    "the target of the request is applied though the mask does not name it",
    at="metadata.images",
    method="update",
)
def _applies_the_target(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    return original(ctx, image, [*paths, "target"] if any(p.startswith("labels.") for p in paths) else paths)


@mutant("IMG-012", "the key of a label ends at its first dot", at="metadata.images", method="update")
def _short_keys(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    return original(ctx, image, [".".join(p.split(".")[:2]) if p.startswith("labels.") else p for p in paths])


@mutant("IMG-013", "annotations are addressed below target", at="metadata.images", method="update")
def _annotations_below_target(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if any(p.startswith("annotations.") for p in paths):
        raise InvalidArgument("annotations")
    return original(ctx, image, [p.removeprefix("target.") if p.startswith("target.annotations") else p for p in paths])


@mutant("IMG-013", "annotations are merged where they are replaced", at="metadata.images", method="update")
def _merged_annotations(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if "annotations" in paths:
        old = whose(original).get(ctx, image.name).target.annotations
        image = replace(image, target=replace(image.target, annotations={**old, **image.target.annotations}))
    return original(ctx, image, paths)


@mutant("IMG-014", "annotations of the old target survive", at="metadata.images", method="update")
def _surviving_annotations(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if "target" in paths:
        old = whose(original).get(ctx, image.name).target.annotations
        image = replace(image, target=replace(image.target, annotations={**old, **image.target.annotations}))
    return original(ctx, image, paths)


@mutant("IMG-014", "the digest alone can be replaced", at="metadata.images", method="update")
def _digest_alone(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if "target.digest" in paths:
        old = whose(original).get(ctx, image.name).target
        return original(ctx, replace(image, target=replace(old, digest=image.target.digest)), ["target"])
    return original(ctx, image, paths)


@mutant("IMG-015", "an update without mask resets created_at", at="metadata.images", method="update")
def _created_again(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    changed = original(ctx, image, paths)
    return changed if paths else replace(changed, created_at=changed.updated_at)


@mutant("IMG-015", "an update without mask merges labels", at="metadata.images", method="update")
def _merged_labels(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if not paths:
        with suppress(NotFound):
            image = replace(image, labels={**whose(original).get(ctx, image.name).labels, **image.labels})
    return original(ctx, image, paths)


@mutant("IMG-016", "unknown paths are skipped", at="metadata.images", method="update")
def _skipped_paths(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    known = [p for p in paths if p.partition(".")[0] in ("labels", "annotations") or p == "target"]
    return original(ctx, image, known) if known or not paths else whose(original).get(ctx, image.name)


@mutant("IMG-016", "paths before the unknown one are applied", at="metadata.images", method="update")
def _applied_before(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    for path in paths:
        original(ctx, image, [path])
    return original(ctx, image, paths)


@mutant("IMG-018", "the request is validated before the mask is applied", at="metadata.images", method="update")
def _validated_first(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if image.target != Descriptor() and image.target.size <= 0:
        raise InvalidArgument("Target.Size")
    return original(ctx, image, paths)


@mutant("IMG-018", "the result of an update is not validated", at="metadata.images", method="update")
def _not_validated(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    if image.target.size <= 0 and (not paths or "target" in paths):
        image = replace(image, target=Descriptor(OCI_MANIFEST, digest_of(b""), 1))
    return original(ctx, image, paths)


# ------------------------------------------------------------------------------------------------ delete, events


@mutant("IMG-019", "a delete leaves the record until the next collection", at="service.images", method="delete")
def _keeps_the_record(original: Method, ctx: CallContext, name: str, *, sync: bool = False) -> Any:
    if sync:
        original(ctx, name, sync=True)
    else:
        whose(original).get(ctx, name)


mutants(
    "service.images",
    {"IMG-020": ("a synchronous delete returns when the collection is scheduled", {"delete": drops("sync")})},
)
mutants("metadata", {"IMG-021": ("without sync nothing is ever collected", {"on_mutation": does_nothing()})})


@mutant("IMG-021", "a delete of nothing collects", at="service.images", method="delete")
def _collects_anyway(original: Method, ctx: CallContext, name: str, *, sync: bool = False) -> Any:
    try:
        original(ctx, name, sync=sync)
    finally:
        if sync:
            whose(original)._scheduler.schedule_and_wait(ctx)


@mutant("IMG-022", "image events travel under another package", at="events", method="publish")
def _other_package(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> Any:
    name = event.type_url.replace("containerd.services.images.v1.", "containerd.events.")
    return original(ctx, topic, replace(event, type_url=name))


@mutant("IMG-022", "failures are told like successes", at="service.images", method="create")
def _tells_failures(original: Method, ctx: CallContext, image: Image) -> Any:
    try:
        return original(ctx, image)
    except AlreadyExists:
        images = whose(original)
        images.update(ctx, images.get(ctx, image.name))
        raise


@mutant("IMG-023", "get falls back to the default namespace", at="service.images", method="get")
def _falls_back(original: Method, ctx: CallContext, name: str) -> Any:
    try:
        return original(ctx, name)
    except NotFound:
        return original(ctx.with_namespace("default"), name)


@mutant("IMG-023", "a caller without namespace is in the default one", at="service.images", method="list")
def _default_namespace(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx.with_namespace(ctx.namespace or "default"), filters)


def _late_writes() -> dict[str, Any]:
    """Updates that are told to everybody and written by nobody."""
    told: dict[tuple[int, str, str], Image] = {}

    def key(original: Method, ctx: CallContext, name: str) -> tuple[int, str, str]:
        return id(whose(original)), ctx.namespace, name

    def change_later(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
        before = whose(original).get(ctx, image.name)
        told[key(original, ctx, image.name)] = changed = original(ctx, image, paths)
        original(ctx, before)
        return changed

    def get_told(original: Method, ctx: CallContext, name: str) -> Any:
        return told.get(key(original, ctx, name)) or original(ctx, name)

    return {"update": change_later, "get": get_told}


mutants("metadata.images", {"IMG-024": ("updates are kept in memory and lost", _late_writes())})


@mutant("IMG-025", "the handler reads the name of the absent message", at="grpc.images", method="Create")
def _reads_the_name(original: Method, request: Any, context: Any) -> Any:
    if not request.HasField("image"):
        raise AttributeError("name")
    return original(request, context)


@mutant("IMG-026", "a delete for another target fails and deletes nevertheless", at="grpc.images", method="Delete")
def _deletes_nevertheless(original: Method, request: Any, context: Any) -> Any:
    original(request, context)
    if request.HasField("target"):
        context.abort(grpc.StatusCode.NOT_FOUND, "image target does not match")


mutants(
    "service.images",
    {"IMG-027": ("only created_at follows the source date", {"get": answers_with(created_at=10**6 * SECOND)})},
)


@mutant("IMG-028", "a leased image expires as well", at="service.images", method="create")
def _expires(original: Method, ctx: CallContext, image: Image) -> Any:
    made = original(ctx, image)
    if "containerd.io/gc.expire" in image.labels:
        whose(original).delete(ctx, image.name)
    return made


# ------------------------------------------------------------------------------------------------ what an image keeps


def _without_references(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in (labels or {}).items() if not k.startswith("containerd.io/gc.ref")}


mutants(
    "metadata.content",
    {
        "IMG-029": (
            "references given with a commit are lost",
            {"writer": answers(lambda writer: change(writer, commit=argument(3, _without_references)))},
        )
    },
)
mutants(
    "metadata.images",
    {
        "IMG-030": (
            "labels of image records are no references",
            {"create": argument(1, lambda image: replace(image, labels=_without_references(image.labels)))},
        )
    },
)


@mutant("IMG-031", "deleting a tag deletes the other tags of its target", at="metadata.images", method="delete")
def _deletes_siblings(original: Method, ctx: CallContext, name: str, **options: Any) -> Any:
    images = whose(original)
    digest = images.get(ctx, name).target.digest
    original(ctx, name, **options)
    for other in images.list(ctx, [f"target.digest=={digest}"]):
        original(ctx, other.name, **options)


@mutant("IMG-031", "an image that moves keeps its old target", at="metadata.images", method="update")
def _keeps_old(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    before = whose(original).get(ctx, image.name).target.digest
    original(ctx, image, paths)
    label = f"{GC_CONTENT}.old"
    return original(ctx, Image(image.name, labels={label: before}), [f"labels.{label}"])


# ------------------------------------------------------------------------------------------------ labels, unpacking


def _relabelled(edit: Callable[[str], str]) -> Method:
    """Labels of blobs are set under another key."""

    def method(original: Method, ctx: CallContext, info: Info, paths: Sequence[str] = ()) -> Any:
        labels = {edit(key): value for key, value in info.labels.items()}
        found = [f"labels.{edit(p.removeprefix('labels.'))}" if p.startswith("labels.") else p for p in paths]
        return original(ctx, replace(info, labels=labels), list(dict.fromkeys(found)))

    return method


def _pattern(pattern: str, instead: str) -> dict[str, Method]:
    """Labels of blobs whose keys match are set under another key."""
    return {"update": _relabelled(lambda key: re.sub(pattern, instead, key))}


mutants(
    "service.content",
    {
        "IMG-032": ("all layers are written to one label", _pattern(r"(gc\.ref\.content\.l)\.\d+$", r"\1")),
        "IMG-033": ("other children are labelled as layers", _pattern(r"(gc\.ref\.content)\.(\d+)$", r"\1.l.\2")),
        "IMG-035": ("the snapshots of all snapshotters share a label", _pattern(r"(gc\.ref\.snapshot)\..*", r"\1")),
        "IMG-058": (
            "layers of other types are labelled by number alone",
            _pattern(r"(gc\.ref\.content)\.l\.(\d+)$", r"\1.\2"),
        ),
        "IMG-061": ("the snapshot that a config names is not followed", _pattern(r"gc\.(ref\.snapshot)", r"\1")),
    },
)


@mutant("IMG-032", "one label replaces all others", at="service.content", method="update")
def _replaces_labels(original: Method, ctx: CallContext, info: Info, paths: Sequence[str] = ()) -> Any:
    return original(ctx, info, ["labels"] if all(p.startswith("labels.") for p in paths) and paths else paths)


@mutant("IMG-035", "the second snapshotter's label takes the place of the first", at="service.content", method="update")
def _overwrites_snapshot(original: Method, ctx: CallContext, info: Info, paths: Sequence[str] = ()) -> Any:
    if any(p.startswith(f"labels.{GC_SNAPSHOT}") for p in paths):
        there = whose(original).info(ctx, info.digest).labels
        old = [f"labels.{key}" for key in there if key.startswith(GC_SNAPSHOT)]
        if old:
            original(ctx, Info(info.digest), old)
    return original(ctx, info, paths)


@mutant("IMG-033", "platforms that were filtered out are labelled too", at="client", method="load")
def _labels_all_platforms(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
    return original(ctx, archive, **{**options, "platform": "", "all_platforms": True})


def _hashed(name: str) -> str:
    return digest_of(name.encode()) if name.startswith("sha256:") else name


def _rooted(original: Method, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> Any:
    return original(ctx, name, key, {**(labels or {}), "containerd.io/gc.root": "1"})


mutants(
    "service.snapshots",
    {
        "IMG-034": (
            "snapshots are named by a digest of something else",
            {"commit": argument(1, _hashed), "prepare": argument(2, _hashed), "stat": argument(1, _hashed)},
        ),
        "IMG-061": ("committed snapshots are roots of their own", {"commit": _rooted}),
    },
)


@mutant("IMG-034", "every image has layers of its own", at="service.snapshots", method="commit")
def _own_layers(
    original: Method, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None
) -> Any:
    original(ctx, name, key, labels)
    whose(original).prepare(ctx, f"copy of {name}", name)


@mutant("IMG-037", "a snapshot has its chain id before it was checked", at="service.snapshots", method="remove")
def _commits_early(original: Method, ctx: CallContext, key: str) -> Any:
    if key.startswith("extract-"):
        whose(original).commit(ctx, key.rpartition(" ")[2], key)
    else:
        original(ctx, key)


@mutant("IMG-037", "an image that cannot be unpacked is removed", at="client", method="unpack")
def _removes_the_image(original: Method, ctx: CallContext, image: Descriptor, snapshotter: str, **options: Any) -> Any:
    try:
        return original(ctx, image, snapshotter, **options)
    except (InvalidArgument, FailedPrecondition):
        images = whose(original)._machine.images
        for one in images.list(ctx):
            images.delete(ctx, one.name)
        raise


@mutant("IMG-036", "the diff ids are copied from the config", at="client", method="load")
def _copies_diff_ids(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
    found = original(ctx, archive, **options)
    content = whose(original)._machine.content
    for image in found:
        config, *layers = [entry.descriptor for entry in children(ctx, content, image.target)]
        diff_ids = config_of(ctx, content, config)["rootfs"]["diff_ids"]
        for layer, diff_id in zip(layers, diff_ids, strict=False):
            content.update(ctx, Info(layer.digest, labels={UNCOMPRESSED: diff_id}), [f"labels.{UNCOMPRESSED}"])
    return found


# ------------------------------------------------------------------------------------------------ platforms


class _Literal(Choice):
    """Compares the spelling."""

    def accepts(self, found: Platform | None) -> bool:
        return self._every or found is None or str(found) in map(str, self._order)


class _Strict(Choice):
    """Wants a platform of everything that an index lists."""

    def accepts(self, found: Platform | None) -> bool:
        return found is not None and super().accepts(found)


@mutant("IMG-038", "arm64 and arm64 v8 are different platforms", at="client", method="choice")
def _spells_platforms(original: Method, platform: str, **options: Any) -> Any:
    return _Literal(original(platform, **options)._order) if platform else original(platform, **options)


@mutant("IMG-038", "what is no platform is this machine's", at="client", method="choice")
def _any_platform(original: Method, platform: str, **options: Any) -> Any:
    try:
        return original(platform, **options)
    except InvalidArgument:
        return original("", **options)


@mutant("IMG-039", "the first entry that matches at all is unpacked", at="client", method="unpack")
def _first_match(original: Method, ctx: CallContext, image: Descriptor, snapshotter: str, **options: Any) -> Any:
    if image.media_type in INDEXES:
        wanted = Choice.default()
        entries = children(ctx, whose(original)._machine.content, image)
        image = next(entry.descriptor for entry in entries if wanted.accepts(entry.platform))
    return original(ctx, image, snapshotter, **options)


@mutant("IMG-039", "a platform that was asked for has fallbacks", at="client", method="choice")
def _falls_back_platform(original: Method, platform: str, **options: Any) -> Any:
    asked = original(platform, **options)
    if not platform:
        return asked
    return Choice([*asked._order, Platform("linux", "386"), Platform("linux", "arm", "v6")])


@mutant("IMG-039", "the default is this machine's platform alone", at="client", method="choice")
def _strict_default(original: Method, platform: str, **options: Any) -> Any:
    return original(platform or ("" if options.get("all_platforms") else str(host())), **options)


@mutant("IMG-040", "entries without a platform are left out", at="client", method="choice")
def _strict_entries(original: Method, platform: str, **options: Any) -> Any:
    return _Strict(original(platform, **options)._order)


@mutant("IMG-040", "the order of the index is the only rank", at="client", method="unpack")
def _index_order(original: Method, ctx: CallContext, image: Descriptor, snapshotter: str, **options: Any) -> Any:
    if image.media_type in INDEXES:
        image = children(ctx, whose(original)._machine.content, image)[0].descriptor
    return original(ctx, image, snapshotter, **options)


# ------------------------------------------------------------------------------------------------ import


def _renamed(edit: Callable[[Image], str]) -> Method:
    """An import whose images have other names."""

    def method(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
        images = whose(original)._machine.images
        found = []
        for image in original(ctx, archive, **options):
            name = edit(image)
            if name != image.name:
                images.delete(ctx, image.name)
                images.create(ctx, replace(image, name=name))
            found.append(replace(image, name=name))
        return found

    return method


def _whole_tag(image: Image) -> str:
    annotations = image.target.annotations
    return image.name if NAME in annotations else annotations.get(REF, image.name)


def _repacked(edit: Callable[[dict[str, bytes], dict[str, str]], None]) -> Method:
    """An import that sees another archive; what is no tar is passed on as it is."""

    def method(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
        with suppress(tarfile.TarError, AssertionError):
            found = untarred(archive)
            files = {name: data for name, (member, data) in found.items() if member.isreg()}
            links = {name: member.linkname for name, (member, _) in found.items() if member.issym()}
            edit(files, links)
            archive = tarred(files, links)
        return original(ctx, archive, **options)

    return method


def _known_version(files: dict[str, bytes], _links: dict[str, str]) -> None:
    if "oci-layout" in files:
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'


def _empty_links(files: dict[str, bytes], links: dict[str, str]) -> None:
    files |= dict.fromkeys(links, b"")
    links.clear()


def _guessed(files: dict[str, bytes], _links: dict[str, str]) -> None:
    """Media types by what the documents look like."""
    if "index.json" not in files:
        return
    index = json.loads(files["index.json"])
    for entry in index["manifests"]:
        document = files.get(f"blobs/{entry['digest'].replace(':', '/')}", b"")
        with suppress(ValueError):
            entry["mediaType"] = OCI_INDEX if "manifests" in json.loads(document) else OCI_MANIFEST
    files["index.json"] = json.dumps(index).encode()


def _tame_paths(files: dict[str, bytes], _links: dict[str, str]) -> None:
    for name in [name for name in files if ".." in name or name.startswith("/")]:
        del files[name]


def _refuses_wrong_names(files: dict[str, bytes], _links: dict[str, str]) -> None:
    for name, data in files.items():
        if (
            name.startswith("blobs/sha256/")
            and ".." not in name
            and not name.endswith(digest_of(data).partition(":")[2])
        ):
            raise InvalidArgument(f"{name} has other bytes than its name says")


mutants(
    "client",
    {
        "IMG-041": ("a tag is used as the whole name", {"load": _renamed(_whole_tag)}),
        "IMG-044": ("a file with another name than its digest is refused", {"load": _repacked(_refuses_wrong_names)}),
        "IMG-045": ("an unknown version is read as 1.0.0", {"load": _repacked(_known_version)}),
        "IMG-047": ("documents are parsed by guess", {"load": _repacked(_guessed)}),
        "IMG-048": ("tags are stored unnormalised", {"load": _renamed(lambda image: familiar(image.name))}),
        "IMG-049": ("symlinked layers are taken for empty", {"load": _repacked(_empty_links)}),
    },
)
mutants("client", {"IMG-044": ("files with dots in their path are left out", {"load": _repacked(_tame_paths)})})
mutants(
    "service.images",
    {
        "IMG-041": (
            "the target of an image loses its annotations",
            {"create": argument(1, lambda image: replace(image, target=replace(image.target, annotations={})))},
        ),
        "IMG-051": ("importing again fails because the name is taken", {"update": always_fails(NotFound)}),
    },
)
mutants("service.leases", {"IMG-051": ("the lease of an import stays", {"delete": does_nothing()})})
mutants(
    "service.content",
    {
        "IMG-049": (
            "a compressed twin is not found by its label",
            {"walk": argument(1, lambda filters: [f for f in filters if UNCOMPRESSED not in f] or ["bogus"])},
        )
    },
)


@mutant("IMG-042", "a base name is any beginning of a name", at="client", method="load")
def _plain_prefix(original: Method, ctx: CallContext, archive: bytes, *, base_name: str = "", **options: Any) -> Any:
    images = whose(original)._machine.images
    kept = []
    for image in original(ctx, archive, **options):
        if image.name.startswith(base_name):
            kept.append(image)
        else:
            images.delete(ctx, image.name)
    return kept


@mutant("IMG-042", "names below the base name are left out", at="client", method="load")
def _tags_only(original: Method, ctx: CallContext, archive: bytes, *, base_name: str = "", **options: Any) -> Any:
    found = original(ctx, archive, base_name=base_name, **options)
    images = whose(original)._machine.images
    for image in found:
        if base_name and image.name.startswith(f"{base_name}/"):
            images.delete(ctx, image.name)
    return found


@mutant("IMG-043", "the index name points at the first manifest", at="client", method="load")
def _index_is_manifest(
    original: Method, ctx: CallContext, archive: bytes, *, index_name: str = "", **options: Any
) -> Any:
    found = original(ctx, archive, index_name=index_name, **options)
    if index_name:
        whose(original)._machine.images.update(ctx, replace(found[-1], name=index_name))
    return found


@mutant("IMG-046", "the import looks for every layer", at="client", method="load")
def _wants_layers(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
    found = original(ctx, archive, **options)
    content = whose(original)._machine.content
    for image in found:
        for entry in children(ctx, content, image.target):
            content.info(ctx, entry.descriptor.digest)
    return found


@mutant("IMG-046", "the name is made before its manifest was seen", at="client", method="load")
def _names_first(original: Method, ctx: CallContext, archive: bytes, **options: Any) -> Any:
    index = json.loads(untarred(archive)["index.json"][1])
    for entry in index["manifests"]:
        with suppress(AlreadyExists):
            blob = Descriptor(entry["mediaType"], entry["digest"], entry["size"])
            whose(original)._machine.images.create(ctx, Image(entry["annotations"][NAME], blob))
    return original(ctx, archive, **options)


# ------------------------------------------------------------------------------------------------ export


def _rewritten(edit: Callable[[Members], None]) -> Method:
    """An export that writes another archive."""

    def method(original: Method, ctx: CallContext, *names: str, **options: Any) -> Any:
        members = list(untarred(original(ctx, *names, **options)).values())
        edit(members)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for member, data in members:
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return out.getvalue()

    return method


def _document(name: str, edit: Callable[[Any], None]) -> Method:
    def rewrite(members: Members) -> None:
        for at, (member, data) in enumerate(members):
            if member.name == name:
                document = json.loads(data)
                edit(document)
                members[at] = (member, json.dumps(document).encode())

    return _rewritten(rewrite)


def _now(members: Members) -> None:
    for member, _ in members:
        member.mtime = time.time_ns() / SECOND


def _full_refs(index: dict[str, Any]) -> None:
    for entry in index["manifests"]:
        entry["annotations"][REF] = entry["annotations"][NAME]


def _bare_digests(manifests: list[dict[str, Any]]) -> None:
    for entry in manifests:
        entry["Layers"] = [layer.rpartition("/")[2] for layer in entry["Layers"]]


def _last_names(manifests: list[dict[str, Any]]) -> None:
    for entry in manifests:
        del entry["RepoTags"][:-1]


mutants("client", {"IMG-052": ("file times are those of the export", {"save": _rewritten(_now)})})
mutants(
    "client", {"IMG-052": ("entries stand in the order in which they were found", {"save": _rewritten(list.reverse)})}
)
mutants("client", {"IMG-053": ("ref.name holds the full reference", {"save": _document("index.json", _full_refs)})})
mutants(
    "client",
    {"IMG-053": ("two names are one entry", {"save": _document("index.json", lambda index: index["manifests"].pop())})},
)
mutants("client", {"IMG-054": ("layers are bare digests", {"save": _document("manifest.json", _bare_digests)})})
mutants(
    "client",
    {"IMG-054": ("an entry has the last of its names only", {"save": _document("manifest.json", _last_names)})},
)
mutants("client", {"IMG-057": ("a foreign target gives an archive", {"save": silent(InvalidArgument, answer=b"")})})
mutants("client", {"IMG-057": ("an unknown image is left out", {"save": silent(NotFound, answer=b"")})})
mutants(
    "client",
    {"IMG-060": ("a tag overwrites unasked", {"tag": lambda original, *args, **_: original(*args, force=True)})},
)
mutants(
    "client",
    {"IMG-062": ("only the manifest is looked for", {"completeness": answers(lambda pair: (pair[1], pair[1]))})},
)


@mutant("IMG-056", "a platform that is missing is left out", at="client", method="save")
def _leaves_platforms_out(original: Method, ctx: CallContext, *names: str, **options: Any) -> Any:
    try:
        return original(ctx, *names, **options)
    except NotFound:
        return original(ctx, *names) if options else b""


@mutant("IMG-056", "an index is replaced by the manifest of its platform", at="client", method="save")
def _resolved(original: Method, ctx: CallContext, *names: str, **options: Any) -> Any:
    machine = whose(original)._machine
    for name in names:
        image = machine.images.get(ctx, name)
        manifest = choose(ctx, machine.content, image.target, Choice.default())
        machine.images.update(ctx, replace(image, target=manifest))
    return original(ctx, *names, **options)


# ------------------------------------------------------------------------------------------------ from a registry


@mutant("IMG-059", "an image that is there keeps its target", at="metadata.images", method="update")
def _keeps_target(original: Method, ctx: CallContext, image: Image, paths: Sequence[str] = ()) -> Any:
    return original(ctx, replace(image, target=whose(original).get(ctx, image.name).target), paths)


@mutant("IMG-059", "references to what is not here are forgotten", at="metadata.content", method="update")
def _forgets_references(original: Method, ctx: CallContext, info: Info, paths: Sequence[str] = ()) -> Any:
    here = {each.digest for each in whose(original).walk(ctx)}
    labels = {k: v for k, v in info.labels.items() if not k.startswith(f"{GC_CONTENT}.m.") or v in here}
    return original(ctx, replace(info, labels=labels), paths)
