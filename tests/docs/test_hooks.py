"""Each hook, of the kernel and of the suite, has its section in the guide, with its exact parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import hookspecs as suite
from refimpl.kernel import hookspecs as kernel

Hook = Callable[..., object]


def marked(names: dict[str, object], mark: str) -> dict[str, Hook]:
    """The hook specifications among the names of a class: pluggy marks each with an attribute."""
    return {name: value for name, value in names.items() if callable(value) and hasattr(value, mark)}


# The suite's hook is no pluggy hook: it is looked up by its name.
HOOKS = marked(dict(vars(kernel.HookSpecs)), f"{kernel.PROJECT}_spec") | {
    name: value for name, value in vars(suite).items() if name.startswith("conformance_")
}


@pytest.fixture(scope="module")
def sections(repository: Path) -> dict[str, str]:
    """The guide's sections on hooks: heading without its backticks to text."""
    text = (repository / "docs/guide/hooks.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `(.+)`$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def parameters(hook: Hook) -> list[str]:
    """Its parameters, as implementations see them."""
    return [name for name in inspect.signature(hook).parameters if name != "self"]


def heading(name: str) -> str:
    """How the guide writes a hook."""
    return f"{name}({', '.join(parameters(HOOKS[name]))})"


def test_the_guide_has_exactly_the_hooks_that_there_are_in_their_order(sections: dict[str, str]) -> None:
    assert len(HOOKS) >= 4
    assert list(sections) == [heading(name) for name in HOOKS]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hooks_section_explains_each_parameter(sections: dict[str, str], name: str) -> None:
    section = sections[heading(name)]

    assert [parameter for parameter in parameters(HOOKS[name]) if f"- `{parameter}`: " not in section] == []


@pytest.mark.parametrize("name", HOOKS)
def test_a_hooks_docstring_says_when_it_is_called(name: str) -> None:
    assert "Called " in (inspect.getdoc(HOOKS[name]) or "")
