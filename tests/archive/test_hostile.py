"""The corpus of hostile archives on a fake host: nothing outside changes, and errors are containerd's."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from refimpl.archive.apply import apply_layer
from refimpl.archive.stream import ByteStream
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.fs_view import View
from refimpl.backends.fake.host import FakeHost
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from tests.archive.hostile import CASES, damaged
from tests.backends.fake.trees import dump

CTX = CallContext()
OUTSIDE = "/somewhere/outside"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(FakeClock())
    host.fs.makedirs("/target")
    host.fs.makedirs(f"{OUTSIDE}/inner")
    host.fs.write(f"{OUTSIDE}/victim", b"precious")
    return host


def unpack(fs: View, data: bytes) -> None:
    apply_layer(CTX, fs, ByteStream(data[at : at + 1000] for at in range(0, len(data), 1000)))


@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_changes_and_the_error_is_containerds(host: FakeHost, name: str) -> None:
    case, target = CASES[name], host.fs.below("/target")
    unpack(target, case.data_before(OUTSIDE))
    before = dump(host.fs.below("/somewhere"))
    if case.error:
        with pytest.raises(Unknown) as error:
            unpack(target, case.data(OUTSIDE))
        assert str(error.value).endswith(case.error)
    else:
        unpack(target, case.data(OUTSIDE))
    assert dump(host.fs.below("/somewhere")) == before
    assert [path for path in host.fs.listdir("/") if path not in {"target", "somewhere"}] == []


@pytest.mark.parametrize("seed", range(int(os.environ.get("REFIMPL_FUZZ_SEEDS", "120"))))
def test_damaged_archives_of_the_corpus_are_errors_or_archives(host: FakeHost, seed: int) -> None:
    before = dump(host.fs.below("/somewhere"))
    with suppress(Unknown):
        unpack(host.fs.below("/target"), damaged(seed, OUTSIDE))
    assert dump(host.fs.below("/somewhere")) == before
