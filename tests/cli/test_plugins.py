"""``refimpl plugins``: the same answers from this process and from a daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from refimpl.cli.graph import draw
from refimpl.cli.table import table
from refimpl.contract.errors import Unavailable
from refimpl.contract.introspection import PluginInfo
from tests.cli.commands import Command

SOME = [
    PluginInfo("io.containerd.content.v1", "content"),
    PluginInfo("io.containerd.snapshotter.v1", "native"),
    PluginInfo("io.containerd.snapshotter.v1", "zfs"),
    PluginInfo(
        "io.containerd.metadata.v1", "bolt", ("io.containerd.content.v1", "io.containerd.snapshotter.v1", "x.y")
    ),
]


def test_a_table_has_columns_as_wide_as_their_widest_cell_and_four_blanks() -> None:
    assert table([("A", "LONG"), ("bbb", "c")]) == "A      LONG    \nbbb    c       "


def test_the_list_of_this_process_and_of_a_daemon_are_the_same(refimpl: Command, address: str) -> None:
    ours = refimpl("plugins", "ls", "--backends", "fake")
    theirs = refimpl("plugins", "ls", "--address", address)
    assert (ours.status, theirs.status) == (0, 0)
    assert ours.out == theirs.out
    lines = ours.out.splitlines()
    assert len(lines) == 39
    assert lines[0].split() == ["TYPE", "ID", "PLATFORMS", "STATUS"]
    assert lines[1].split() == ["io.containerd.content.v1", "content", "-", "ok"]


@pytest.mark.debian("ctr")
def test_the_table_is_that_of_ctr(refimpl: Command, address: str) -> None:
    ctr = subprocess.run(
        ["ctr", "--address", address, "plugins", "ls"], capture_output=True, text=True, timeout=60, check=True
    )
    assert refimpl("plugins", "ls", "--address", address).out == ctr.stdout


def test_filters_choose(refimpl: Command) -> None:
    done = refimpl("plugins", "ls", "--backends", "fake", "id==content", "type==io.containerd.event.v1")
    assert [line.split()[1] for line in done.out.splitlines()] == ["ID", "content", "exchange", "content"]


def test_a_filter_that_does_not_parse_is_told(refimpl: Command) -> None:
    done = refimpl("plugins", "ls", "--backends", "fake", "id=content")
    assert done.status == 1
    assert "parse error" in done.err


def test_json_has_everything(refimpl: Command, address: str) -> None:
    listed = json.loads(refimpl("plugins", "ls", "--json", "--address", address, "id==cri").out)
    (platform,) = {tuple(one.pop("platforms")) for one in listed}
    assert platform[0].startswith("linux/")
    assert listed == [
        {
            "type": "io.containerd.grpc.v1",
            "id": "cri",
            "requires": ["io.containerd.event.v1", "io.containerd.service.v1"],
            "exports": {"CRIVersion": "v1", "CRIVersionAlpha": "v1alpha2"},
            "capabilities": [],
            "status": "skip",
            "error": {"code": 2, "message": "the CRI is not built yet: skip plugin"},
        }
    ]


def test_with_real_backends_nothing_is_touched_outside_a_temporary_directory(refimpl: Command) -> None:
    listed = json.loads(refimpl("plugins", "ls", "--backends", "real", "--json").out)
    paths = [value for info in listed for value in info["exports"].values() if value.startswith("/")]
    assert paths
    assert all(path.startswith("/tmp") and "refimpl-plugins-" in path for path in paths)
    assert not any(Path(path).exists() for path in paths)


def test_a_configuration_counts(refimpl: Command, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    done = refimpl("plugins", "ls", "--backends", "fake", "--config", str(path))
    assert len(done.out.splitlines()) == 38
    path.write_text("version = ")
    assert refimpl("plugins", "ls", "--config", str(path)).status == 1


def test_one_plugin_is_shown_by_uri_or_by_an_id_of_its_own(refimpl: Command, address: str) -> None:
    done = refimpl("plugins", "show", "bolt", "--address", address)
    assert done.out == refimpl("plugins", "show", "io.containerd.metadata.v1.bolt", "--address", address).out
    assert done.out.startswith("Type:         io.containerd.metadata.v1\nID:           bolt\nStatus:       ok\n")
    assert "Requires:     io.containerd.snapshotter.v1\n" in done.out
    assert "Export:       policy=shared\n" in done.out


def test_a_skipped_plugin_is_shown_with_its_reason(refimpl: Command, address: str) -> None:
    done = refimpl("plugins", "show", "cri", "--address", address)
    assert "Status:       skip\nError:        the CRI is not built yet: skip plugin\n" in done.out
    assert "Platform:     linux/" in done.out
    assert json.loads(refimpl("plugins", "show", "cri", "--json", "--address", address).out)["status"] == "skip"


def test_an_unknown_or_ambiguous_name_is_told(refimpl: Command, address: str) -> None:
    unknown = refimpl("plugins", "show", "nosuch", "--address", address)
    assert (unknown.status, unknown.err) == (1, "refimpl: no plugin nosuch\n")
    several = refimpl("plugins", "show", "content", "--address", address)
    assert several.status == 1
    assert "several plugins have the id content: io.containerd.content.v1.content, " in several.err


def test_the_graph_by_type() -> None:
    assert draw(SOME, "mermaid", "type") == (
        "graph LR\n"
        '    n0["content.v1<br/>content"]\n'
        '    n1["snapshotter.v1<br/>native<br/>zfs"]\n'
        '    n2["metadata.v1<br/>bolt"]\n'
        "    n2 --> n0\n"
        "    n2 --> n1\n"
    )


def test_the_graph_by_plugin() -> None:
    drawn = draw(SOME, "dot", "plugin")
    assert drawn.startswith("digraph plugins {\n")
    assert '    "io.containerd.snapshotter.v1.zfs" [label="snapshotter.v1\\nzfs"];\n' in drawn
    assert drawn.count("->") == 3


def test_both_formats_come_from_the_command(refimpl: Command, address: str) -> None:
    assert refimpl("plugins", "graph", "--address", address).out.startswith("graph LR\n")
    assert refimpl("plugins", "graph", "--format", "dot", "--by", "plugin", "--address", address).out.endswith("}\n")


@pytest.mark.debian("dot")
def test_svg_is_drawn_by_graphviz() -> None:
    assert "<svg" in draw(SOME, "svg", "type")


def test_without_graphviz_svg_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Unavailable, match="its command dot is not installed; --format dot or mermaid needs nothing"):
        draw(SOME, "svg", "type")


def test_a_failing_graphviz_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="dot failed: broken"):
        draw(SOME, "svg", "type")


@pytest.mark.parametrize("flag,word", [("--format", "png"), ("--by", "id")])
def test_an_unknown_choice_is_a_usage_error(refimpl: Command, flag: str, word: str) -> None:
    done = refimpl("plugins", "graph", flag, word)
    assert done.status == 2
    assert f"{flag} must be one of" in done.err
