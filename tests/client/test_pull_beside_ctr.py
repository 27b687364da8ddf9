"""What a pull leaves is what ``ctr images pull`` leaves: from Debian's registry, in the real containerd."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from refimpl.client import Client
from refimpl.client.manifests import INDEXES, MANIFESTS
from refimpl.client.pull import pull
from refimpl.client.registry import Reference
from refimpl.client.registry import Registry as Remote
from refimpl.client.registry_auth import Credentials
from refimpl.contract.context import CallContext
from refimpl.contract.errors import PermissionDenied
from tests.acceptance import daemons
from tests.client.registry import HOST, LAYER, Registry, tar

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "ctr", "docker-registry")]

SECONDS = 60.0

PASSWORDS = "ann:$2y$04$/MYcUUzaCexgDovqokdaTuPpZXofN7Htc97NBINXm1m.5Doufjv9.\n"
"""What ``htpasswd -B`` writes of the password ``secret``."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Debian's registry, where only ann is let in; its address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        address = f"{HOST}:{probe.getsockname()[1]}"
    (tmp_path / "passwords").write_text(PASSWORDS)
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'blobs'}}}}}\n"
        f'http: {{addr: "{address}"}}\n'
        f"auth: {{htpasswd: {{realm: the test, path: {tmp_path / 'passwords'}}}}}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(address):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/v2/", timeout=SECONDS).status_code == 401
    except requests.ConnectionError:
        return False


def push(address: str, repository: str, tag: str, images: Registry) -> None:
    """Put all blobs and documents into the registry, the last of the documents under the tag as well."""
    base, who = f"http://{address}/v2/{repository}", ("ann", "secret")
    for digest, (kind, data) in images.blobs.items():
        if kind in MANIFESTS | INDEXES:
            for name in (digest, tag):
                headers = {"Content-Type": kind}
                done = requests.put(f"{base}/manifests/{name}", data, headers=headers, auth=who, timeout=SECONDS)
                assert done.status_code == 201, done.text
        else:
            begun = requests.post(f"{base}/blobs/uploads/", auth=who, timeout=SECONDS)
            where, query = begun.headers["Location"], {"digest": digest}
            done = requests.put(where, data, params=query, auth=who, timeout=SECONDS)
            assert done.status_code == 201, done.text


def test_labels_record_and_snapshots_are_those_that_ctr_leaves(
    daemon: daemons.Daemon, client: Client, registry: str, ctx: CallContext
) -> None:
    images = Registry()
    here = images.image(
        [tar({"a": ctx.namespace.encode()}), tar({"b": b"b"})],
        compressed=lambda data: (f"{LAYER}+gzip", gzip.compress(data)),
        Cmd=["a"],
    )
    images.index(images.image([tar({"c": b"c"})], "s390x"), here)
    push(registry, "lib/one", "1", images)
    ref = f"{registry}/lib/one:1"
    theirs = ctx.with_namespace(f"{ctx.namespace}-theirs")

    done = daemon.ctr("-n", theirs.namespace, "images", "pull", "--plain-http", "--user", "ann:secret", ref)
    assert done.code == 0, done.stderr
    remote = Remote(Reference.parse(ref), credentials=Credentials("ann", "secret"))
    ours = pull(ctx, client, remote)

    found = {one.digest: dict(one.labels) for one in client.content.walk(ctx)}
    expected = {one.digest: dict(one.labels) for one in client.content.walk(theirs)}
    # Both may have pulled a layer that the other has too; only snapshots of one's own are labelled.
    assert json.dumps(found, sort_keys=True, indent=1) == json.dumps(expected, sort_keys=True, indent=1)
    [record] = client.images.list(theirs)
    assert (ours.image.name, ours.image.target, ours.image.labels) == (record.name, record.target, record.labels)
    names = [{one.name for one in client.snapshotter("overlayfs").walk(each)} for each in (ctx, theirs)]
    assert names[0] == names[1]


def test_debians_registry_refuses_a_wrong_password(registry: str) -> None:
    remote = Remote(Reference.parse(f"{registry}/lib/one:1"), credentials=Credentials("ann", "wrong"))

    with pytest.raises(PermissionDenied, match=r"does not give .* to ann"):
        remote.resolve(CallContext())
