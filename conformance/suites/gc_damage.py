"""Garbage collection, on records that cannot be read (GC-044)."""

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._content import begin, fresh, has, store
from conformance.suites._gc import eventually, scheduler
from conformance.suites._metadata import ME, REPLACED, put, records
from refimpl.contract.errors import Unknown

FAILED = "garbage collection failed"


@clause("GC-044", needs={*REPLACED, "log"})
def test_a_collection_that_fails_removes_nothing_and_is_tried_again(own):
    """Rejects: a daemon that dies of it, a caller who is told that all is well, a collector that never comes back."""
    instance = own(config=scheduler(startup_delay="0s", mutation_threshold=0))
    begin(instance.content, ME, "damaged", b"abc")
    lost = store(instance.content, ME, fresh())
    found = records(instance)
    found.bucket("v1", ME.namespace, "content", "ingests", "damaged")[b"expireat"] = b"garbage"
    put(instance, found)
    instance.restart()

    lease = instance.leases.create(ME, "l").id
    with pytest.raises(Unknown):
        instance.leases.delete(ME, lease, sync=True)

    assert has(instance.content, ME, lost), "nothing may be removed by who cannot tell what is held"
    assert eventually(lambda: instance.log().count(FAILED) >= 2), "another attempt"
    instance.content.abort(ME, "damaged")
    instance.collect(ME)
    assert not has(instance.content, ME, lost)
