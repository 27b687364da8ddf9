"""Writing configurations: complete, readable again, and from version 1 to version 2 (DMN-057 to DMN-059)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from refimpl.kernel import ConfigError, Configuration, Duration
from refimpl.kernel.config import RefimplConfig, Section, document, load, migrate
from tests.kernel.plugins import plugin


@dataclass(frozen=True)
class Settings:
    """Of the scheduler."""

    mutation_threshold: int = 100
    startup_delay: Duration = field(default=Duration(100_000_000))
    names: tuple[str, ...] = ("a",)
    nothing: str | None = None
    deeper: dict[str, Any] = field(default_factory=dict)


SCHEDULER = plugin("io.containerd.gc.v1.scheduler", config=Settings)
CONTENT = plugin("io.containerd.content.v1.content")
GRPC_CONTENT = plugin("io.containerd.grpc.v1.content")
ALL = [SCHEDULER, CONTENT, GRPC_CONTENT]


def test_the_default_is_complete() -> None:
    printed = document(Configuration(), ALL)
    assert printed["version"] == 2
    assert printed["grpc"]["max_recv_message_size"] == 16777216
    assert printed["plugins"] == {
        SCHEDULER.uri: {"mutation_threshold": 100, "startup_delay": "100ms", "names": ["a"], "deeper": {}}
    }
    assert "refimpl" not in printed


def test_what_is_printed_is_read_back_the_same(tmp_path: Path) -> None:
    printed = document(Configuration(), ALL)
    path = tmp_path / "c.toml"
    path.write_text(tomli_w.dumps(printed))
    # Lists are appended to what is there, but all of these are empty.
    again = document(load(path), ALL)
    assert again.pop("imports") == [str(path)]
    del printed["imports"]
    assert again == printed


def test_a_section_is_shown_with_the_defaults_of_what_it_leaves_out() -> None:
    configuration = Configuration(
        plugins={SCHEDULER.uri: Section({"mutation_threshold": 3}), "io.no.such.v1": Section({})}
    )
    plugins = document(configuration, ALL)["plugins"]
    assert list(plugins) == [SCHEDULER.uri]
    assert plugins[SCHEDULER.uri]["mutation_threshold"] == 3
    assert plugins[SCHEDULER.uri]["startup_delay"] == "100ms"


def test_a_disabled_plugin_has_no_section() -> None:
    configuration = Configuration(
        disabled_plugins=[SCHEDULER.uri], plugins={SCHEDULER.uri: Section({"mutation_threshold": "x"})}
    )
    assert document(configuration, ALL)["plugins"] == {}


def test_a_section_that_cannot_be_decoded_is_an_error() -> None:
    with pytest.raises(ConfigError, match="mutation_threshold"):
        document(Configuration(plugins={SCHEDULER.uri: Section({"mutation_threshold": "x"})}), ALL)


def test_version_1_is_printed_as_version_2() -> None:
    configuration = Configuration(
        version=1,
        disabled_plugins=["content", "cri"],
        required_plugins=["scheduler"],
        plugins={"scheduler": Section({"mutation_threshold": 8})},
    )
    printed = document(configuration, ALL)
    assert printed["version"] == 2
    assert printed["disabled_plugins"] == [CONTENT.uri, GRPC_CONTENT.uri, "io.containerd.grpc.v1.cri"]
    assert printed["required_plugins"] == [SCHEDULER.uri]
    assert printed["plugins"][SCHEDULER.uri]["mutation_threshold"] == 8


def test_our_own_table_is_printed_when_there_is_something_in_it() -> None:
    configuration = Configuration(refimpl=RefimplConfig(backends={"default": "fake"}))
    assert document(configuration, [])["refimpl"] == {"backends": {"default": "fake"}}


def test_migrating_changes_names_and_nothing_else() -> None:
    values = {
        "root": "/r",
        "strange": 1,
        "disabled_plugins": ["content"],
        "plugins": {"scheduler": {"mutation_threshold": 8}, "zork": {"x": 1}},
    }
    result, missing = migrate(values, ALL)
    assert result == {
        "root": "/r",
        "strange": 1,
        "version": 2,
        "disabled_plugins": [CONTENT.uri, GRPC_CONTENT.uri],
        "plugins": {SCHEDULER.uri: {"mutation_threshold": 8}, "io.containerd.grpc.v1.zork": {"x": 1}},
    }
    assert missing == ["zork"]


def test_a_section_goes_to_the_plugin_that_has_a_configuration() -> None:
    twins = [plugin("io.a.b.v1.x"), plugin("io.c.d.v1.x", config=Settings)]
    result, _ = migrate({"plugins": {"x": {"mutation_threshold": 1}}}, twins)
    assert list(result["plugins"]) == ["io.c.d.v1.x"]


def test_migrating_version_2_changes_nothing() -> None:
    values = {"version": 2, "plugins": {SCHEDULER.uri: {}}}
    assert migrate(values, ALL) == (values, [])
