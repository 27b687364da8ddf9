"""Pull: what it leaves, what it survives, and what it refuses; against refimpl and the real containerd."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from refimpl.client import Client
from refimpl.client.fetch import Progress, ref_of
from refimpl.client.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST
from refimpl.client.platforms import Choice, parse
from refimpl.client.pull import Pulled
from refimpl.client.pull import pull as pull_image
from refimpl.client.registry import TRIES, Reference
from refimpl.client.registry import Registry as Remote
from refimpl.client.registry_auth import Credentials
from refimpl.client.registry_auth import parse as challenges_in
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    Canceled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from refimpl.contract.types import Descriptor
from refimpl.testing import fake_containerd
from tests.client.registry import LAYER, TOKEN, Registry, digest_of, serving, tar

MIB = 1 << 20
SECONDS = 60.0


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as made:
        yield made


@pytest.fixture
def big(ctx: CallContext) -> bytes:
    """A layer of more than three messages. No two tests have the same: a daemon keeps one blob for all namespaces."""
    return tar({"big": ctx.namespace.ljust(16, "-").encode() * (3 * MIB // 16)})


@pytest.fixture
def small(ctx: CallContext) -> bytes:
    """Another layer."""
    return tar({"small": ctx.namespace.encode()})


@pytest.fixture
def image(registry: Registry, big: bytes, small: bytes) -> str:
    """The name of an image of a big and a small layer."""
    return registry.name(registry.image([big, small]))


class Pulling:
    """Pulls into one namespace of one daemon."""

    def __init__(self, client: Client, ctx: CallContext) -> None:
        self.client, self.ctx = client, ctx
        self.told: list[Progress] = []

    def __call__(self, ref: str, user: str = "", ctx: CallContext | None = None, **more: Any) -> Pulled:
        name, _, password = user.partition(":")
        remote = Remote(Reference.parse(ref), credentials=Credentials(name, password), pause=0.01)
        return pull_image(ctx or self.ctx, self.client, remote, report=self.told.append, **more)

    def labels(self, digest: str) -> dict[str, str]:
        return dict(self.client.content.info(self.ctx, digest).labels)

    def blobs(self) -> set[str]:
        return {info.digest for info in self.client.content.walk(self.ctx)}

    def left(self) -> list[object]:
        """What shows of a pull that has come to nothing, but for blobs that the collector takes."""
        images = self.client.images.list(self.ctx)
        return [*images, *self.client.leases.list(self.ctx), *self.client.snapshotter("overlayfs").walk(self.ctx)]


@pytest.fixture
def pull(client: Client, ctx: CallContext) -> Pulling:
    return Pulling(client, ctx)


# -- what is left


def test_a_pull_leaves_a_record_labels_and_snapshots_but_no_lease(
    pull: Pulling, registry: Registry, big: bytes, small: bytes
) -> None:
    top = registry.image([big, small], compressed=lambda data: (f"{LAYER}+gzip", gzip.compress(data, 1)))
    ref = registry.name(top)
    manifest = json.loads(registry.blobs[top["digest"]][1])
    config, (lower, upper) = manifest["config"]["digest"], [layer["digest"] for layer in manifest["layers"]]

    done = pull(ref)

    assert done.image.name == ref
    assert done.image.target == Descriptor(OCI_MANIFEST, top["digest"], top["size"])
    assert pull.client.images.get(pull.ctx, ref) == done.image
    source = {"containerd.io/distribution.source.127.0.0.1": "lib/one"}
    gc = "containerd.io/gc.ref"
    kept = {f"{gc}.content.config": config, f"{gc}.content.l.0": lower, f"{gc}.content.l.1": upper}
    assert pull.labels(top["digest"]) == {**source, **kept}
    assert pull.labels(config) == {**source, f"{gc}.snapshot.overlayfs": done.chain_id}
    assert pull.labels(upper) == {**source, "containerd.io/uncompressed": digest_of(small)}
    assert pull.client.snapshotter("overlayfs").stat(pull.ctx, done.chain_id).parent == digest_of(big)
    assert pull.client.leases.list(pull.ctx) == []
    assert pull.client.content.list_statuses(pull.ctx) == []


def test_what_is_there_is_not_fetched_again(pull: Pulling, registry: Registry, image: str) -> None:
    first = pull(image)
    registry.asked.clear()
    pull.told.clear()

    assert pull(image).image.target == first.image.target
    assert [request.path for request in registry.asked] == ["/v2/lib/one/manifests/1"]
    assert {progress.was_there for progress in pull.told if progress.done} == {True}


def test_a_name_that_means_another_image_now_gets_it(
    pull: Pulling, registry: Registry, image: str, small: bytes
) -> None:
    pull(image)
    later = registry.image([small])
    registry.name(later)

    pull(image)

    [record] = pull.client.images.list(pull.ctx)
    assert record.target.digest == later["digest"]


def test_a_blob_from_two_repositories_names_both(
    pull: Pulling, registry: Registry, image: str, big: bytes, small: bytes
) -> None:
    pull(registry.name(registry.image([big, small]), "lib/two:1"))
    pull(image)
    pull(image)

    source = "containerd.io/distribution.source.127.0.0.1"
    assert {pull.labels(digest)[source] for digest in pull.blobs()} == {"lib/one,lib/two"}


def test_an_image_can_be_named_by_its_digest(pull: Pulling, registry: Registry, image: str) -> None:
    digest = registry.tags["lib/one:1"]
    ref = f"{registry.address}/lib/one@{digest}"

    assert pull(ref, snapshotter="").image.name == ref
    assert [*pull.client.snapshotter("overlayfs").walk(pull.ctx)] == []


# -- which platform


def test_of_an_index_only_what_is_wanted_is_fetched(
    pull: Pulling, registry: Registry, big: bytes, small: bytes
) -> None:
    here, other = registry.image([small]), registry.image([big], "s390x")
    ref = registry.name(registry.index(other, here))

    done = pull(ref)

    assert done.chain_id == digest_of(small)
    assert here["digest"] in pull.blobs()
    assert other["digest"] not in pull.blobs()
    # Labels are of all, whether they are there or not: whoever fetches another platform later need not change them.
    kept = {key: value for key, value in pull.labels(done.image.target.digest).items() if "gc.ref" in key}
    assert sorted(kept.values()) == sorted([here["digest"], other["digest"]])

    pull(ref, choice=Choice.only(parse("linux/s390x")), snapshotter="")
    assert other["digest"] in pull.blobs()


def test_all_platforms_are_fetched_and_this_machines_unpacked(
    pull: Pulling, registry: Registry, big: bytes, small: bytes
) -> None:
    here, other = registry.image([small]), registry.image([big], "s390x")

    done = pull(registry.name(registry.index(other, here)), every=True)

    assert {here["digest"], other["digest"]} < pull.blobs()
    assert done.chain_id == digest_of(small)


def test_a_platform_that_is_not_offered_is_told_with_those_that_are(
    pull: Pulling, registry: Registry, big: bytes, small: bytes
) -> None:
    ref = registry.name(registry.index(registry.image([big], "s390x"), registry.image([small], "riscv64")))

    with pytest.raises(NotFound, match=r"no platform linux/.*, only linux/riscv64, linux/s390x"):
        pull(ref)
    assert pull.left() == []


# -- on a bad line


def test_a_cut_connection_costs_nothing_that_has_come(
    pull: Pulling, registry: Registry, image: str, big: bytes
) -> None:
    registry.fault(digest_of(big), times=2, cut=MIB + 5)

    pull(image)

    assert registry.ranges_asked() == [f"bytes={MIB + 5}-", f"bytes={2 * (MIB + 5)}-"]


def test_without_ranges_a_blob_comes_again_from_its_start(
    pull: Pulling, registry: Registry, image: str, big: bytes
) -> None:
    registry.ranges = False
    registry.fault(digest_of(big), cut=2 * MIB)

    assert pull(image).image.name == image


def test_a_connection_that_never_brings_anything_is_given_up(
    pull: Pulling, registry: Registry, image: str, big: bytes
) -> None:
    registry.fault(digest_of(big), times=100, cut=0)

    with pytest.raises(Unavailable, match="broke off"):
        pull(image)
    assert pull.left() == []
    assert len([request for request in registry.asked if request.path.endswith(digest_of(big))]) == TRIES


def test_what_an_earlier_pull_left_is_gone_on_with(pull: Pulling, registry: Registry, image: str, big: bytes) -> None:
    half(pull, big, big[:MIB])

    pull(image)

    assert registry.ranges_asked() == [f"bytes={MIB}-"]


@pytest.mark.parametrize("start", [b"other bytes" * 1000, b"too many" * MIB])
def test_what_an_earlier_pull_left_may_be_damaged(
    pull: Pulling, registry: Registry, image: str, start: bytes, big: bytes
) -> None:
    half(pull, big, start)

    assert pull(image).image.name == image


def test_a_server_in_trouble_is_asked_again(pull: Pulling, registry: Registry, image: str, small: bytes) -> None:
    registry.fault("/manifests/1", times=2, status=500)
    registry.fault(digest_of(small), status=503)

    assert pull(image).image.name == image


def test_a_server_that_stays_in_trouble_is_given_up(pull: Pulling, registry: Registry, image: str) -> None:
    registry.fault("", times=100, status=502)

    with pytest.raises(Unavailable, match=f"{registry.address} answered 502 Bad Gateway"):
        pull(image)
    assert len(registry.asked) == TRIES
    assert pull.left() == []


def half(pull: Pulling, big: bytes, data: bytes) -> None:
    """Leave an ingest of the big layer as a pull does that was killed, its lease too."""
    blob = Descriptor(LAYER, digest_of(big), len(big))
    leased = pull.ctx.with_lease(pull.client.leases.create(pull.ctx).id)
    writer = pull.client.content.writer(leased, ref_of(blob), total=len(big), expected=blob.digest)
    writer.write(data)
    writer.close()


# -- what is refused


def test_bytes_that_are_not_those_of_their_digest_are_not_kept(
    pull: Pulling, registry: Registry, image: str, big: bytes
) -> None:
    registry.fault(digest_of(big), data=b"x" * len(big))

    with pytest.raises(FailedPrecondition, match="wrong digest"):
        pull(image)
    assert pull.left() == []
    assert digest_of(big) not in pull.blobs()
    assert [status for status in pull.client.content.list_statuses(pull.ctx) if digest_of(big) in status.ref] == []

    assert pull(image).image.name == image


@pytest.mark.parametrize("more", [-1, 1])
def test_too_many_or_too_few_bytes_are_told(
    pull: Pulling, registry: Registry, image: str, more: int, big: bytes
) -> None:
    registry.fault(digest_of(big), times=100, data=(big + b"x")[: len(big) + more])

    with pytest.raises(FailedPrecondition, match=f"{len(big)} bytes"):
        pull(image)
    assert pull.left() == []


def test_a_manifest_that_is_not_its_digest_is_told(pull: Pulling, registry: Registry, image: str) -> None:
    registry.fault("", data=b"{}")

    with pytest.raises(FailedPrecondition, match="wrong digest"):
        pull(f"{registry.address}/lib/one@{registry.tags['lib/one:1']}")
    assert pull.blobs() == set()


def test_a_blob_that_is_missing_is_named(pull: Pulling, registry: Registry, image: str, small: bytes) -> None:
    del registry.blobs[digest_of(small)]

    with pytest.raises(NotFound, match=f"{digest_of(small)} of {image}: not found"):
        pull(image)
    assert pull.left() == []


@pytest.mark.parametrize(
    "ref,message",
    [
        ("lib/one:2", "lib/one:2: not found"),
        ("lib/ONE:1", 'image name ".*ONE:1": invalid argument'),
        (f"lib/one@sha512:{'0' * 128}", "only sha256 digests can be checked"),
    ],
)
def test_a_name_that_is_none_is_told(pull: Pulling, registry: Registry, image: str, ref: str, message: str) -> None:
    with pytest.raises((NotFound, InvalidArgument), match=message):
        pull(f"{registry.address}/{ref}")


@pytest.mark.parametrize(
    "document,kind,message",
    [
        ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({"schemaVersion": 1, "fsLayers": []}, "application/json", "schema 1"),
        ({"a": "page"}, "text/html", "neither a manifest nor an index: text/html"),
        ({"manifests": []}, OCI_MANIFEST, "expected manifest but found index"),
    ],
)
def test_what_is_no_image_is_refused(
    pull: Pulling, registry: Registry, document: object, kind: str, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        pull(registry.name(registry.document(document, kind)))
    assert pull.left() == []


def test_a_server_that_does_not_know_what_it_serves_will_do(pull: Pulling, registry: Registry, small: bytes) -> None:
    top = registry.image([small])
    registry.blobs[top["digest"]] = ("text/plain", registry.blobs[top["digest"]][1])

    assert pull(registry.name(top)).image.target.media_type == OCI_MANIFEST


def test_dockers_media_types_are_as_good(pull: Pulling, registry: Registry, small: bytes) -> None:
    manifest = json.loads(registry.blobs[registry.image([small])["digest"]][1]) | {"mediaType": DOCKER_MANIFEST}
    entry = registry.document(manifest, DOCKER_MANIFEST)
    ref = registry.name(registry.document({"schemaVersion": 2, "manifests": [entry]}, DOCKER_LIST))

    assert pull(ref).image.target.media_type == DOCKER_LIST


def test_nobody_at_the_address_is_told() -> None:
    with serving() as gone:
        pass

    with pytest.raises(Unavailable, match=f"^{gone.address}: Connection refused: unavailable$"):
        Remote(Reference.parse(f"{gone.address}/lib/one:1"), pause=0.0).resolve(CallContext())


def test_no_proxy_is_asked_for_what_is_on_this_machine(
    pull: Pulling, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    assert pull(image, snapshotter="").image.name == image


# -- who we are


@pytest.mark.parametrize("tokens", [True, False])
def test_who_has_the_password_is_let_in(pull: Pulling, registry: Registry, image: str, tokens: bool) -> None:
    registry.user, registry.tokens = "ann:pass:word", tokens

    pull(image, user="ann:pass:word")

    # Once refused; afterwards every request has what it needs.
    refused = [request for request in registry.asked if not request.authorization]
    assert [request.path for request in refused] == ["/v2/lib/one/manifests/1"]
    if tokens:
        assert {request.authorization for request in registry.asked if "/v2/" in request.path} == {
            "",
            f"Bearer {TOKEN}",
        }


@pytest.mark.parametrize(
    "tokens,user,message",
    [
        (False, "", "wants a name and a password"),
        (False, "ann:wrong", "does not give .* to ann"),
        (True, "", "token server .* refuses anonymous users"),
        (True, "ann:wrong", "token server .* refuses ann"),
    ],
)
def test_who_has_not_is_told(
    pull: Pulling, registry: Registry, image: str, tokens: bool, user: str, message: str
) -> None:
    registry.user, registry.tokens = "ann:right", tokens

    with pytest.raises(PermissionDenied, match=message) as refusal:
        pull(image, user=user)
    assert "wrong" not in str(refusal.value)
    assert pull.left() == []


def test_a_password_is_for_the_registry_and_no_other_server(pull: Pulling, registry: Registry, image: str) -> None:
    registry.user = "ann:secret"
    with serving() as other:
        other.blobs = registry.blobs
        # By another name, for by the same one a browser's rules take it for the same server.
        registry.elsewhere = f"http://localhost:{other.address.partition(':')[2]}"
        pull(image, user="ann:secret")

        assert len(other.asked) == 3
        assert {request.authorization for request in other.asked} == {""}


def test_challenges_are_read_with_commas_in_them() -> None:
    header = 'Basic realm="a, b", Bearer realm="https://auth/token",service=x,scope="repository:a:pull,push"'

    assert challenges_in(header) == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": "https://auth/token", "service": "x", "scope": "repository:a:pull,push"}),
    ]
    assert "secret" not in repr(Credentials("ann", "secret"))
    assert base64.b64decode(Credentials("ann", "se:cret").basic().split()[1]) == b"ann:se:cret"


# -- in company


def test_a_pull_that_is_cancelled_leaves_no_image_and_no_lease(
    pull: Pulling, registry: Registry, image: str, big: bytes
) -> None:
    held = threading.Event()
    registry.fault(digest_of(big), held=held)
    token = CancelToken()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            pull(image, ctx=replace(pull.ctx, cancel=token))
        except Canceled as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert registry.begun.wait(SECONDS)
    token.cancel()
    held.set()
    thread.join(SECONDS)

    assert len(ended) == 1
    assert pull.left() == []


def test_two_who_pull_the_same_image_fetch_it_once(pull: Pulling, registry: Registry, image: str, big: bytes) -> None:
    held = threading.Event()
    registry.fault(digest_of(big), held=held)
    done: list[Pulled] = []
    threads = [threading.Thread(target=lambda: done.append(pull(image))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert registry.begun.wait(SECONDS)
    until(lambda: [(one.descriptor.digest, one.offset) for one in pull.told].count((digest_of(big), 0)) == 2)
    held.set()
    for thread in threads:
        thread.join(SECONDS)

    assert [one.image.target for one in done] == [done[0].image.target] * 2
    assert len([request for request in registry.asked if request.path.endswith(digest_of(big))]) == 1


def test_a_record_that_somebody_else_makes_meanwhile_is_changed(registry: Registry, image: str) -> None:
    with fake_containerd() as fake:
        pull = Pulling(fake.client, fake.ctx)
        pull(image, snapshotter="")
        later = registry.image([tar({"later": b""})])
        registry.name(later)
        # As if it had come between the two questions whether it is there.
        fake.faults.fail("Images/Update", on=1, with_=NotFound("image"))

        assert pull(image, snapshotter="").image.target.digest == later["digest"]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
