"""``refimpl config``, alone and against the installed containerd (DMN-002, DMN-010 to DMN-015, DMN-057 to DMN-059)."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Command

SCHEDULER = "io.containerd.gc.v1.scheduler"
SHARED = (
    SCHEDULER,
    "io.containerd.internal.v1.opt",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.service.v1.diff-service",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def test_the_default_is_complete_and_always_the_same(refimpl: Command) -> None:
    done = refimpl("config", "default")
    assert done.status == 0
    printed = parsed(done.out)
    assert (printed["version"], printed["root"], printed["imports"]) == (2, "/var/lib/containerd", [])
    assert printed["plugins"][SCHEDULER] == {
        "pause_threshold": 0.02, "deletion_threshold": 0, "mutation_threshold": 100, "schedule_delay": "0s",
        "startup_delay": "100ms",
    }  # fmt: skip
    assert refimpl("config", "default").out == done.out


def test_what_is_printed_can_be_fed_back(refimpl: Command, file: Path) -> None:
    default = refimpl("config", "default").out
    file.write_text(default)
    again = parsed(refimpl("config", "dump", "--config", str(file)).out)
    assert again.pop("imports") == [str(file)]
    assert {**again, "imports": []} == parsed(default)
    assert refimpl("config", "check", "--config", str(file)).status == 0


def test_a_dump_shows_what_is_in_force_and_leaves_out_what_nobody_knows(refimpl: Command, file: Path) -> None:
    file.write_text(
        f'version = 2\nfoo = 1\n[plugins."{SCHEDULER}"]\nmutation_threshold = 3\nzork = 1\n'
        '[plugins."io.containerd.nothing.v1.nope"]\nx = 1\n'
    )
    printed = parsed(refimpl("config", "dump", "-c", str(file)).out)
    assert printed["plugins"][SCHEDULER]["mutation_threshold"] == 3
    assert printed["plugins"][SCHEDULER]["startup_delay"] == "100ms"
    assert "zork" not in printed["plugins"][SCHEDULER]
    assert "io.containerd.nothing.v1.nope" not in printed["plugins"]
    assert "foo" not in printed


def test_a_file_that_is_missing_is_told(refimpl: Command) -> None:
    done = refimpl("config", "dump", "-c", "/nonexistent.toml")
    assert (done.status, done.err) == (1, "refimpl: open /nonexistent.toml: no such file or directory\n")


def test_a_version_1_file_is_printed_as_version_2(refimpl: Command, file: Path) -> None:
    file.write_text(
        'root = "/r"\ndisabled_plugins = ["content", "zork"]\n[plugins.scheduler]\nmutation_threshold = 8\n'
    )
    done = refimpl("config", "migrate", "-c", str(file))
    printed = parsed(done.out)
    assert (printed["version"], printed["root"]) == (2, "/r")
    assert set(printed["disabled_plugins"]) == {
        "io.containerd.content.v1.content", "io.containerd.grpc.v1.content", "io.containerd.grpc.v1.zork",
    }  # fmt: skip
    assert printed["plugins"] == {SCHEDULER: {"mutation_threshold": 8}}
    assert done.err == "refimpl: no plugin has the id zork; taken for io.containerd.grpc.v1.zork\n"


def test_a_check_tells_every_mistake_with_its_place(refimpl: Command, file: Path) -> None:
    file.write_text(
        "version = 2\n"
        "foo = 1\n"
        'disabled_plugins = ["io.containerd.grpc.v1.crii", "io.containerd.snapshotter.v1.p"]\n'
        f'[plugins."{SCHEDULER}"]\n'
        "mutation_treshold = 3\n"
        'startup_delay = "soon"\n'
        '[plugins."io.containerd.nothing.v1.nope"]\n'
        "x = 1\n"
        '[plugins."io.containerd.event.v1.exchange"]\n'
        "[proxy_plugins.p]\n"
        'type = "snapshot"\n'
    )
    done = refimpl("config", "check", "-c", str(file))
    assert (done.status, done.out) == (1, "")
    assert done.err.replace(str(file), "FILE").splitlines() == [
        "refimpl: FILE:2: foo: unknown key",
        "refimpl: disabled_plugins: no plugin io.containerd.grpc.v1.crii",
        'refimpl: FILE:7: plugins."io.containerd.nothing.v1.nope": no such plugin',
        'refimpl: FILE:9: plugins."io.containerd.event.v1.exchange": this plugin has no configuration',
        f'refimpl: FILE:5: plugins."{SCHEDULER}".mutation_treshold: unknown key',
        f'refimpl: FILE:6: plugins."{SCHEDULER}".startup_delay: time: invalid duration "soon"',
    ]


# --- the same files, read by containerd -----------------------------------------------------------------------------

FILES: Mapping[str, Mapping[str, str]] = {
    "empty": {"m": ""},
    "unknown keys": {"m": 'version = 2\nfoo = "bar"\n[nosuch]\na = 1\n[grpc]\nzork = 1'},
    "merged": {
        "m": 'version = 2\nimports = ["s"]\ndisabled_plugins = ["a.b.c.d"]\noom_score = 5\n[grpc]\nuid = 5\ngid = 6\n'
        f'[plugins."{SCHEDULER}"]\nmutation_threshold = 7\ndeletion_threshold = 3\n'
        '[timeouts]\n"a.b" = "1s"\n"c.d" = "1s"\n[proxy_plugins.p]\ntype = "snapshot"\naddress = "/a"',
        "s": 'root = "/x"\noom_score = 0\ndisabled_plugins = ["a.b.c.d", "e.f.g.h"]\n[grpc]\ngid = 7\n'
        f'[plugins."{SCHEDULER}"]\nmutation_threshold = 9\n[timeouts]\n"a.b" = "2s"\n'
        '[proxy_plugins.q]\ntype = "content"\naddress = "/b"',
    },
    "circle": {"m": 'version = 2\nimports = ["b"]', "b": 'root = "/b"\nimports = ["m"]'},
    "spellings": {"m": 'version = 2\nimports = ["b", "./b", "DIR/b"]', "b": 'disabled_plugins = ["a.b.c.d"]'},
    "pattern": {
        "m": 'version = 2\nimports = ["DIR/*.toml"]', "2.toml": 'root = "/2"', "1.toml": 'root = "/1"\nstate = "/1"',
    },
    "relative pattern": {"m": 'version = 2\nimports = ["*.toml"]', "2.toml": 'root = "/2"'},
    "bad pattern": {"m": 'version = 2\nimports = ["DIR/[*.toml"]'},
    "literal": {"m": 'version = 2\nimports = ["DIR/?.toml"]', "1.toml": ""},
    "missing import": {"m": 'version = 2\nimports = ["nope"]'},
    "breadth first": {
        "m": 'version = 2\nimports = ["a", "b"]\nroot = "/0"', "a": 'root = "/1"\nimports = ["c"]', "b": 'root = "/2"',
        "c": 'state = "/3"',
    },
    "short key in an import": {"m": 'version = 2\nimports = ["s"]', "s": "[plugins.cri]\nx = 1"},
    "short disabled": {"m": 'version = 2\ndisabled_plugins = ["a.b.c"]'},
    "short required": {"m": 'version = 2\nrequired_plugins = ["cri"]'},
    "newer": {"m": "version = 99"},
    "text version": {"m": 'version = "2"'},
    "no value": {"m": "root"},
    "unclosed": {"m": "[grpc"},
    "twice": {"m": "version = 2\nversion = 2"},
    "wrong type": {"m": "root = 7"},
    "wrong type in a section": {"m": f'version = 2\n[plugins."{SCHEDULER}"]\nmutation_threshold = "abc"'},
    "whole number for a share": {"m": f'version = 2\n[plugins."{SCHEDULER}"]\npause_threshold = 1'},
    "wrong type in a disabled section": {
        "m": f'version = 2\ndisabled_plugins = ["{SCHEDULER}"]\n[plugins."{SCHEDULER}"]\nmutation_threshold = "abc"'
    },
    "bad duration": {"m": f'version = 2\n[plugins."{SCHEDULER}"]\nschedule_delay = "abc"'},
    "durations": {"m": f'version = 2\n[plugins."{SCHEDULER}"]\nschedule_delay = "1m"\nstartup_delay = "1500us"'},
    "empty address": {"m": 'version = 2\n[grpc]\naddress = ""'},
    "section of nobody": {"m": 'version = 2\n[plugins."io.containerd.nothing.v1.nope"]\nx = 1'},
}  # fmt: skip


def comparable(text: str) -> dict[str, Any]:
    """What both have: no plugins that one of them lacks, and the files in no order."""
    document = parsed(text)
    document["plugins"] = {uri: section for uri, section in document["plugins"].items() if uri in SHARED}
    document["imports"] = sorted(document["imports"])
    return document


@pytest.mark.debian("containerd")
@pytest.mark.parametrize("name", FILES)
def test_a_configuration_means_what_it_means_to_containerd(
    refimpl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for file_, text in FILES[name].items():
        (tmp_path / file_).write_text(text.replace("DIR", str(tmp_path)))
    monkeypatch.chdir("/")
    main = str(tmp_path / "m")
    real = subprocess.run(
        ["containerd", "--config", main, "config", "dump"], capture_output=True, text=True, timeout=60, check=False
    )
    ours = refimpl("config", "dump", "--config", main)
    assert (ours.status == 0) == (real.returncode == 0), f"{real.stderr} / {ours.err}"
    if ours.status == 0:
        assert comparable(ours.out) == comparable(real.stdout)
    else:
        assert ours.err.count("\n") == 1


@pytest.mark.debian("containerd")
def test_the_defaults_are_containerds(refimpl: Command) -> None:
    real = subprocess.run(["containerd", "config", "default"], capture_output=True, text=True, timeout=60, check=True)
    assert comparable(refimpl("config", "default").out) == comparable(real.stdout)
