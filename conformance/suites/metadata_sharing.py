"""Metadata: content that several namespaces have, and the two policies about it (MET-043 to 049)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from conformance import clause
from conformance.suites._content import commit, digest_of, fresh, has, read, stat, store, upload
from conformance.suites._metadata import ME, kind, sharing
from conformance.wire import Wire
from refimpl.contract.content import Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.namespaces import Namespace

SHAREABLE = "containerd.io/namespace.shareable"


@clause("MET-043")
def test_a_known_digest_needs_no_upload(new_namespace, content, upload, unique):
    """Rejects: bytes that are asked for again, and a blob that is there before anybody committed it."""
    owner, other, ref, data = new_namespace(), new_namespace(), unique("ref"), fresh(11)
    digest = store(content, owner, data)

    answer = upload(stat(ref, total=11, expected=digest), ctx=other)
    assert {(message.offset, message.digest) for message in answer.messages} == {(11, digest)}
    assert kind(lambda: content.info(other, digest)) is NotFound

    answer = upload(commit(ref=ref, total=11, expected=digest, offset=11), ctx=other)
    assert (answer.code, {message.offset for message in answer.messages}) == ("OK", {11})
    assert read(content, other, digest) == data


@clause("MET-044")
def test_another_size_opens_an_empty_upload(new_namespace, content, upload, unique):
    """Rejects: content that is handed over to those who do not know its size, or whose digest nobody has."""
    owner, other, data = new_namespace(), new_namespace(), fresh(11)
    digest = store(content, owner, data)

    def opened_at(total, expected):
        answer = upload(stat(unique("ref"), total=total, expected=expected), ctx=other)
        return {message.offset for message in answer.messages}

    assert opened_at(12, digest) == {0}
    assert opened_at(5, digest_of(fresh())) == {0}
    assert opened_at(0, digest) == {11}
    assert opened_at(11, digest) == {11}


@clause("MET-044")
def test_a_shared_upload_is_not_committed_with_another_size(new_namespace, content, upload, unique):
    """Rejects: a size that nobody compares."""
    owner, other, ref = new_namespace(), new_namespace(), unique("ref")
    digest = store(content, owner, fresh(11))
    answer = upload(stat(ref, total=11, expected=digest), commit(total=10, expected=digest, offset=11), ctx=other)
    assert answer.code == "FAILED_PRECONDITION"
    assert not has(content, other, digest)


@clause("MET-045")
def test_content_is_read_only_where_it_was_committed(new_namespace, content):
    """Rejects: a look into the back end for what the namespace does not have."""
    _unreadable_elsewhere(content, new_namespace(), new_namespace())


def _unreadable_elsewhere(content, owner, other):
    digest = store(content, owner, fresh(11))
    assert kind(lambda: content.info(other, digest)) is NotFound
    assert kind(lambda: read(content, other, digest)) is NotFound
    assert kind(lambda: content.update(other, Info(digest, labels={"a": "1"}), ["labels"])) is NotFound
    assert kind(lambda: content.delete(other, digest)) is NotFound
    assert digest not in {info.digest for info in content.walk(other)}
    assert len(read(content, owner, digest)) == 11


@clause("MET-045", "MET-046", needs={"config"})
def test_isolated_content_has_to_be_uploaded(own):
    """Rejects: a digest that is as good as the content."""
    instance = own(config=sharing("isolated"))
    content, other = instance.content, CallContext(namespace="other")
    owner = ME.with_lease(instance.leases.create(ME, "l").id)
    _unreadable_elsewhere(content, owner, other)
    data = fresh(11)
    digest = store(content, owner, data)

    writer = content.writer(other, "ref", total=11, expected=digest)
    try:
        assert writer.status().offset == 0
        assert [status.ref for status in content.list_statuses(other)] == ["ref"]
    finally:
        writer.close()
    wire = Wire(instance.address)
    try:
        refused = wire.stream(
            "containerd.services.content.v1.Content/Write",
            [commit(ref="ref", total=11, expected=digest, offset=11)],
            namespace="other",
        )
    finally:
        wire.close()
    assert refused.code == "OUT_OF_RANGE"
    assert not has(content, other, digest)
    assert store(content, other, data, {"containerd.io/gc.root": "1"}, ref="ref") == digest
    assert read(content, other, digest) == data


@clause("MET-048", needs={"config"})
def test_no_label_but_true_opens_isolated_content(own):
    """Rejects: any value that opens it."""
    instance = own(config=sharing("isolated"))
    content, namespaces = instance.content, instance.namespaces
    owner = ME.with_lease(instance.leases.create(ME, "l").id)
    digest = store(content, owner, fresh(11))

    def opened_at(name):
        writer = content.writer(CallContext(namespace=name), "ref", total=11, expected=digest)
        try:
            return writer.status().offset
        finally:
            writer.close()

    assert opened_at("without") == 0
    for number, value in enumerate(["false", "1", "True", "yes"]):
        namespaces.update(ME, Namespace("t", {SHAREABLE: value}))
        assert opened_at(f"u{number}") == 0, value
    namespaces.update(ME, Namespace("t", {SHAREABLE: "true"}))
    assert opened_at("after") in {0, 11}, "1.6 takes no notice of the label"


@clause("MET-049")
def test_labels_of_shared_bytes_are_each_namespaces_own(new_namespace, content):
    """Rejects: labels that are kept with the bytes."""
    one, two, data = new_namespace(), new_namespace(), fresh()
    digest = store(content, one, data)
    store(content, two, data)
    before = content.info(two, digest)
    content.update(one, Info(digest, labels={"a": "1"}), ["labels"])
    assert content.info(one, digest).labels == {"a": "1"}
    assert content.info(two, digest) == before
