"""From TOML values to a plugin's dataclass (PLG-038 to PLG-040)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from refimpl.kernel import ConfigError, Duration
from refimpl.kernel.config import Position, decode


@dataclass(frozen=True)
class Inner:
    """A table in a table."""

    left: int = 1
    right: int = 2


@dataclass(frozen=True)
class Settings:
    """One field of each kind."""

    text: str = "t"
    number: int = 1
    share: float = 0.5
    switch: bool = False
    delay: Duration = field(default=Duration(1))
    names: list[str] = field(default_factory=lambda: ["a"])
    fixed: tuple[int, ...] = (1,)
    inner: Inner = Inner()
    inners: dict[str, Inner] = field(default_factory=lambda: {"runc": Inner()})
    free: Any = None
    maybe: str | None = None
    binary_name: str = field(default="", metadata={"key": "BinaryName"})


def decoded(**values: Any) -> Settings:
    return decode(Settings, values, Position())


def test_nothing_said_leaves_the_defaults() -> None:
    assert decoded() == Settings()


def test_each_kind_of_value_is_taken() -> None:
    given = decoded(
        text="x", number=2, share=1.5, switch=True, delay="2s", names=["b", "c"], fixed=[4, 5], free=[1, "a"], maybe="y"
    )
    assert given == Settings("x", 2, 1.5, True, Duration.parse("2s"), ["b", "c"], (4, 5), free=[1, "a"], maybe="y")


def test_a_table_overrides_only_its_keys_at_any_depth() -> None:
    given = decoded(inner={"left": 9}, inners={"runc": {"right": 8}, "crun": {}})
    assert given.inner == Inner(left=9)
    assert given.inners == {"runc": Inner(right=8), "crun": Inner()}


def test_a_key_that_is_no_python_name_has_its_own_word() -> None:
    assert decoded(BinaryName="runc").binary_name == "runc"


@pytest.mark.parametrize(
    "values,message",
    [
        ({"text": 7}, "text: expected a text, got 7"),
        ({"number": "abc"}, "number: expected a whole number, got 'abc'"),
        ({"number": 1.5}, "number: expected a whole number, got 1.5"),
        ({"number": True}, "number: expected a whole number, got True"),
        ({"share": 1}, "share: expected a number with a point, such as 1.0, got 1"),
        ({"switch": 1}, "switch: expected true or false, got 1"),
        ({"delay": "abc"}, 'delay: time: invalid duration "abc"'),
        ({"delay": 5}, 'delay: expected a duration such as "10s", got 5'),
        ({"names": "a"}, "names: expected a list, got 'a'"),
        ({"names": [1]}, "names: expected a text, got 1"),
        ({"inner": 1}, "inner: expected a table, got 1"),
        ({"inner": {"left": "x"}}, "inner.left: expected a whole number, got 'x'"),
        ({"inners": {"my runc": {"left": "x"}}}, "inners.\"my runc\".left: expected a whole number, got 'x'"),
        ({"zork": 1}, "zork: unknown key"),
        ({"inner": {"zork": 1}}, "inner.zork: unknown key"),
    ],
)
def test_what_does_not_fit_is_named_by_its_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decoded(**values)
    assert str(caught.value) == message


def test_the_file_and_the_line_are_named_where_there_are_any() -> None:
    text = "# a comment\n[plugins.x]\nnames = [\n  'a',\n]\nnumber = 'abc'\n"
    position = Position(Path("/etc/c.toml"), text, ("plugins", "x"))
    with pytest.raises(ConfigError) as caught:
        decode(Settings, {"names": ["a"], "number": "abc"}, position)
    assert str(caught.value) == "/etc/c.toml:6: plugins.x.number: expected a whole number, got 'abc'"


def test_unknown_keys_can_be_collected_instead() -> None:
    seen: list[str] = []
    given = decode(Settings, {"zork": 1, "number": 5}, Position(), lambda position: seen.append(position.key))
    assert (given, seen) == (Settings(number=5), ["zork"])
