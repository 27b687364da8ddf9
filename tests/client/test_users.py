"""Users: what an image's own files say of names, found without mounting anything."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping

import pytest
import zstandard

from refimpl.client.users import User, find
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.types import Descriptor
from refimpl.testing import FakeContainerd, fake_containerd
from tests.client.registry import LAYER, digest_of, tar

FILES: Mapping[str, bytes | str] = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:100::/:/bin/sh\n\n# a remark\nbroken\n",
    "etc/group": b"root:x:0:\nusers:x:100:ann\nwheel:x:10:bob,ann\naudio:x:20:bob\n",
}

Find = Callable[..., User]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeContainerd]:
    with fake_containerd() as made:
        yield made


@pytest.fixture
def who(fake: FakeContainerd) -> Find:
    """Whom a text means in an image of some layers, the lowest first."""

    def asked(text: str, *layers: Mapping[str, bytes | str], pack: str = "") -> User:
        descriptors = []
        for layer in layers:
            data = tar(layer)
            data = gzip.compress(data) if pack == "+gzip" else zstandard.compress(data) if pack else data
            with_kind = Descriptor(f"{LAYER}{pack}", digest_of(data), len(data))
            store(fake, with_kind, data)
            descriptors.append(with_kind)
        return find(fake.ctx, fake.client.content, descriptors, text)

    return asked


def store(fake: FakeContainerd, blob: Descriptor, data: bytes) -> None:
    if blob.digest not in {info.digest for info in fake.client.content.walk(fake.ctx)}:
        writer = fake.client.content.writer(fake.ctx, blob.digest)
        writer.write(data)
        writer.commit(fake.ctx, len(data), blob.digest)


@pytest.mark.parametrize("pack", ["", "+gzip", "+zstd"])
def test_a_name_has_the_numbers_and_groups_of_the_images_files(who: Find, pack: str) -> None:
    assert who("ann", FILES, pack=pack) == User(1000, 100, (100, 10))


@pytest.mark.parametrize(
    "text,user",
    [
        ("1000", User(1000, 100, (100, 10))),
        ("7", User(7, 0, ())),
        ("ann:audio", User(1000, 20, ())),
        ("ann:7", User(1000, 7, ())),
        ("1000:wheel", User(1000, 10, ())),
    ],
)
def test_what_is_left_out_is_looked_up(who: Find, text: str, user: User) -> None:
    assert who(text, FILES) == user


def test_numbers_and_root_need_no_image() -> None:
    class Unread:
        """A store that must not be asked."""

    layers = [Descriptor(LAYER, "sha256:none", 1)]
    for text, user in {"": User(), "root": User(), "0": User(), "5:6": User(5, 6, ())}.items():
        assert find(CallContext(), Unread(), layers, text) == user  # type: ignore[arg-type]


def test_an_upper_layers_file_takes_the_lower_ones_place(who: Find) -> None:
    upper: Mapping[str, bytes | str] = {"./etc/passwd": b"ann:x:5:6::/:\n"}

    assert who("ann", FILES, upper) == User(5, 6, (100, 10))


@pytest.mark.parametrize("removed", ["etc/.wh.passwd", "etc/.wh..wh..opq", ".wh.etc"])
def test_a_file_that_an_upper_layer_removes_is_not_there(who: Find, removed: str) -> None:
    with pytest.raises(NotFound, match='user "ann" in the image'):
        who("ann", FILES, {removed: b""})
    # What comes again above, or beside the whiteout, is there.
    assert who("ann", FILES, {removed: b""}, FILES).uid == 1000
    assert who("ann", FILES, {removed: b"", **FILES}).uid == 1000


def test_who_is_not_there_is_told(who: Find) -> None:
    for text in ("eve", "1000:nobodies", "ann:nobodies"):
        with pytest.raises(NotFound, match=r"(user|group) "):
            who(text, FILES)
    for text in ("99999999999:1", "5:99999999999"):
        with pytest.raises(InvalidArgument, match="id"):
            who(text, FILES)
    with pytest.raises(InvalidArgument, match="no regular file in the image: name the user by UID:GID"):
        who("ann", {"etc/passwd": "/run/passwd"})
