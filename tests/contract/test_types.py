"""Platforms as a configuration writes them."""

import pytest

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.types import Platform


@pytest.mark.parametrize(
    "text, platform",
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm64", Platform("linux", "arm64", "v8")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
    ],
)
def test_a_platform_is_read(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"])
def test_what_is_no_platform_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f'"{text}" is an invalid platform'):
        Platform.parse(text)
