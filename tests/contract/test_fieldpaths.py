"""Field paths: a key is everything behind the first dot (CTR-023, IMG-012, NSP-011)."""

from __future__ import annotations

import pytest

from refimpl.contract.fieldpaths import map_key, with_key


@pytest.mark.parametrize(
    "path,key",
    [
        ("labels.x", "x"),
        ("labels.x.y/z", "x.y/z"),
        ("labels.", ""),
        ("labels", None),
        ("labelsx.y", None),
        ("Labels.x", None),
        ("annotations.x", None),
    ],
)
def test_a_path_into_a_map_has_the_rest_as_key(path: str, key: str | None) -> None:
    assert map_key(path, "labels") == key


def test_a_value_is_taken_over_and_a_missing_or_empty_one_removes_the_key() -> None:
    current = {"a": "1", "b": "2"}

    assert with_key(current, {"a": "9", "c": "3"}, "a") == {"a": "9", "b": "2"}
    assert with_key(current, {"c": "3"}, "a") == {"b": "2"}
    assert with_key(current, {"a": ""}, "a") == {"b": "2"}
    assert current == {"a": "1", "b": "2"}, "the map that was there is left alone"
