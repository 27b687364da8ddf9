"""Each registered plugin has a page, and each page says what its registration says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from conformance.catalogue import load
from docs.hooks import clauses, plugins
from docs.hooks.guide import all_pages
from refimpl.kernel.assembly import built_in_hooks
from refimpl.kernel.config import Duration
from refimpl.kernel.config.decode import key_of
from refimpl.kernel.registration import Registration


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    return all_pages()


@pytest.fixture(scope="module")
def registered() -> dict[str, list[plugins.Entry]]:
    return plugins.by_uri()


def test_every_registered_plugin_has_a_page_and_a_line_in_the_index(
    pages: Mapping[str, str], registered: dict[str, list[plugins.Entry]]
) -> None:
    for uri in registered:
        assert f"plugins/{uri}.md" in pages
        assert f"[{uri}]({uri}.md)" in pages["plugins/index.md"]


def test_the_pages_are_of_exactly_the_plugins_that_a_daemon_starts(
    registered: dict[str, list[plugins.Entry]],
) -> None:
    """A plugin module that is missing in the kernel's list would have a page and never run."""
    live = {(registration.uri, registration.backend) for registration in built_in_hooks(entry_points=False).registry()}

    assert {(uri, entry.backend) for uri, twins in registered.items() for entry in twins} == live


def test_a_page_names_requirements_configuration_keys_and_backends(
    pages: Mapping[str, str], registered: dict[str, list[plugins.Entry]]
) -> None:
    for uri, twins in registered.items():
        page = pages[f"plugins/{uri}.md"]
        for entry in twins:
            config: Any = entry.registration.config
            keys = [key_of(field) for field in dataclasses.fields(config)] if config else []
            for word in (*entry.registration.requires, *keys, entry.module.__name__):
                assert f"`{word}`" in page, uri


def test_a_plugin_module_says_in_its_docstring_what_it_is(registered: dict[str, list[plugins.Entry]]) -> None:
    silent = [entry.module.__name__ for twins in registered.values() for entry in twins if not entry.module.__doc__]

    assert silent == []


@dataclasses.dataclass
class Settings:
    """A section with one key of each form."""

    threshold: float = 0.02
    period: Duration = Duration(10**10)
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])


def entry(type: str, id: str, module: str, **more: Any) -> plugins.Entry:
    """A registration that lives in a module with a docstring of its own."""
    home = ModuleType(module, f"{type}.{id}: what {module} is.\n\nOn disk: nothing.")
    return plugins.Entry(Registration(type, id, init=lambda ic: None, **more), home)


@pytest.fixture
def house() -> dict[str, list[plugins.Entry]]:
    """Two plugins, one of them with a twin."""
    one = entry("io.containerd.internal.v1", "one", "pkg.one", requires=["io.containerd.content.v1"], config=Settings)
    return {
        "io.containerd.content.v1.content": [
            entry("io.containerd.content.v1", "content", "pkg.real", backend="real", platforms=True),
            entry("io.containerd.content.v1", "content", "pkg.fake", backend="fake"),
        ],
        one.uri: [one],
    }


def test_a_page_shows_both_twins_the_real_one_first(house: dict[str, list[plugins.Entry]]) -> None:
    page = plugins.plugin_page("io.containerd.content.v1.content", house, {}, plugins.Started())

    assert "- Backends: real and fake" in page
    assert 0 < page.index("## Real: `pkg.real`") < page.index("## Fake: `pkg.fake`")
    assert "- Platforms: the machine's own" in page


def test_a_page_shows_what_a_requirement_leads_to(house: dict[str, list[plugins.Entry]]) -> None:
    page = plugins.plugin_page("io.containerd.internal.v1.one", house, {}, plugins.Started())

    assert (
        "- `io.containerd.content.v1`: [io.containerd.content.v1.content](io.containerd.content.v1.content.md)" in page
    )


def test_a_page_shows_each_key_with_its_type_and_default(house: dict[str, list[plugins.Entry]]) -> None:
    page = plugins.plugin_page("io.containerd.internal.v1.one", house, {}, plugins.Started())

    assert "| `threshold` | `float` | `0.02` |" in page
    assert '| `period` | `Duration` | `"10s"` |' in page
    assert '| `names` | `list[str]` | `["a"]` |' in page


def test_a_page_shows_what_the_plugin_tells_about_itself(house: dict[str, list[plugins.Entry]]) -> None:
    start = plugins.Started("skip", "no pool: skip plugin", {"root": "ROOT/one"})
    page = plugins.plugin_page("io.containerd.internal.v1.one", house, {}, start)

    assert "- With fake backends: skip (`no pool: skip plugin`)" in page
    assert "| `root` | `ROOT/one` |" in page


def test_a_page_lists_the_clauses_that_name_the_plugin_and_those_of_its_type_but_not_everybodys(
    house: dict[str, list[plugins.Entry]],
) -> None:
    model = next(iter(load().values()))
    own, kind, everybody = "io.containerd.content.v1.content", "io.containerd.content.v1.*", "*"
    bound = [("A-001", own), ("A-002", kind), ("A-003", own), ("A-004", everybody), ("A-005", own)]
    areas = {"a": [dataclasses.replace(model, id=name, area="a", plugins=(uri,)) for name, uri in bound]}

    page = plugins.plugin_page("io.containerd.content.v1.content", house, areas, plugins.Started())

    links = [f"[A-00{n}](../clauses/a.md#a-00{n})" for n in range(6)]
    assert f"- a (4): {links[1]} to {links[3]}, {links[5]}\n" in page


def test_every_clause_has_an_anchor_on_the_page_of_its_area(pages: Mapping[str, str]) -> None:
    for clause in load().values():
        assert f"{{ #{clause.id.lower()} }}" in pages[f"clauses/{clause.area}.md"]


def test_a_clause_is_shown_as_text_and_not_as_markup() -> None:
    clause = next(iter(load().values()))
    page = clauses.area_page(clause.area, [dataclasses.replace(clause, text="<b> & *stars* [link](x)")])

    assert "&lt;b&gt; &amp; *stars* [link](x)" in page


def test_a_docstrings_roles_and_literal_blocks_become_markdown() -> None:
    text = plugins.markdown("Keeps :class:`~a.B` in ``x``::\n\n    a < b\n\nand a < b.")

    assert text == "Keeps `a.B` in `x`:\n\n    a < b\n\nand a &lt; b."
