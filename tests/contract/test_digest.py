"""Digests: which texts name content, with the reasons that clients see (CNT-001, IMG-004, LEA-012)."""

from __future__ import annotations

import hashlib

import pytest

from refimpl.contract import digest
from refimpl.contract.errors import InvalidArgument

FORM = "invalid checksum digest format"
LENGTH = "invalid checksum digest length"
ALGORITHM = "unsupported digest algorithm"


@pytest.mark.parametrize("algorithm,digits", [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_lower_case_hex_of_the_right_length_names_content(algorithm: str, digits: int) -> None:
    digest.validate(f"{algorithm}:{'0a' * (digits // 2)}")


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", FORM),
        ("abc", FORM),
        (":abc", FORM),
        ("sha256:", FORM),
        ("sha256:" + "A" * 64, FORM),
        ("sha256:" + "g" * 64, FORM),
        ("SHA256:" + "a" * 64, FORM),
        ("sha256:zz", LENGTH),
        ("sha256:" + "a" * 65, LENGTH),
        ("sha512:" + "a" * 64, LENGTH),
        ("md5:" + "0" * 32, ALGORITHM),
        ("a+b:" + "a" * 64, ALGORITHM),
    ],
)
def test_anything_else_is_refused_with_the_reason_that_containerd_gives(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        digest.validate(text)

    assert refused.value.message == reason


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_verifier_agrees_with_hashing_all_at_once(algorithm: str) -> None:
    expected = digest.from_bytes(b"hello world", algorithm)
    verifier = digest.Verifier(expected)

    verifier.update(b"hello ")
    half_way = verifier.verified
    verifier.update(b"world")

    assert (half_way, verifier.verified) == (False, True)
    assert verifier.digest == expected == f"{algorithm}:{hashlib.new(algorithm, b'hello world').hexdigest()}"


def test_a_digest_splits_into_algorithm_and_hex() -> None:
    assert digest.split(digest.from_bytes(b"")) == ("sha256", hashlib.sha256(b"").hexdigest())
