"""Reading files and their imports, and refusing bad ones (DMN-001 to DMN-015, PLG-033)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refimpl.kernel import ConfigError, Configuration
from refimpl.kernel.config import GRPCConfig, ProxyPlugin, load
from tests.kernel.plugins import plugin

SCHEDULER = "io.containerd.gc.v1.scheduler"

Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write files (name=text, ``__`` is a dot) into a directory; answers with the first one's path."""

    def write(**texts: str) -> Path:
        paths = []
        for name, text in texts.items():
            path = tmp_path / name.replace("__", ".").replace("--", "/")
            path.write_text(text.replace("DIR", str(tmp_path)))
            paths.append(path)
        return paths[0]

    return write


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).replace(str(path.parent), "DIR")


def test_an_empty_file_is_containerds_defaults_in_version_1(files: Files) -> None:
    loaded = load(files(m__toml=""))
    assert loaded.version == 0
    assert loaded.by_id
    assert loaded.grpc == GRPCConfig()
    assert (loaded.root, loaded.state) == ("/var/lib/containerd", "/run/containerd")
    assert set(loaded.stream_processors) == {
        "io.containerd.ocicrypt.decoder.v1.tar",
        "io.containerd.ocicrypt.decoder.v1.tar.gzip",
    }


def test_the_default_file_need_not_exist(tmp_path: Path) -> None:
    assert load(default=tmp_path / "config.toml") == Configuration()


def test_the_default_file_is_read_when_it_exists(files: Files) -> None:
    assert load(default=files(m__toml='version = 2\nroot = "/r"')).root == "/r"


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.toml") == "open DIR/no.toml: no such file or directory"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "d.toml").mkdir()
    assert refused(tmp_path / "d.toml") == "open DIR/d.toml: is a directory"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    assert refused(tmp_path / "m.toml").startswith("DIR/m.toml: not UTF-8")


@pytest.mark.parametrize(
    "text,place",
    [
        ("version = 2\nroot\n", "2:5"),
        ("version = 2\n[grpc\n", "2:6"),
        ('version = 2\nroot = "a\n', "2:"),
        ("version = 2\nversion = 2\n", "2:"),
        ("[grpc]\n[grpc]\n", "2:6"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(files: Files, text: str, place: str) -> None:
    message = refused(files(m__toml=text))
    assert message.startswith(f"DIR/m.toml:{place}")
    assert "failed to parse TOML" in message


@pytest.mark.parametrize(
    "text,message",
    [
        ("root = 7", "DIR/m.toml:1: root: expected a text, got 7"),
        ('version = 2\noom_score = "x"', "DIR/m.toml:2: oom_score: expected a whole number, got 'x'"),
        ('version = "2"', "DIR/m.toml:1: version: expected a whole number, got '2'"),
        ("[grpc]\nuid = true", "DIR/m.toml:2: grpc.uid: expected a whole number, got True"),
        ("plugins = 1", "DIR/m.toml:1: plugins: expected a table, got 1"),
        ("[plugins]\nx = 1", "DIR/m.toml:2: plugins.x: expected a table, got 1"),
        ("imports = 1", "DIR/m.toml:1: imports: expected a list, got 1"),
        ('[timeouts]\n"x.y" = "abc"', 'DIR/m.toml:2: timeouts."x.y": unable to parse abc into a time duration'),
        ('[timeouts]\n"x.y" = 5', 'DIR/m.toml:2: timeouts."x.y": expected a text, got 5'),
        ("zork = 1", "DIR/m.toml:1: zork: unknown key"),
        ("[grpc]\n\nzork = 1", "DIR/m.toml:3: grpc.zork: unknown key"),
        (
            'version = 2\ndisabled_plugins = ["overlayfs"]',
            'DIR/m.toml:2: disabled_plugins: invalid disabled plugin URI "overlayfs" expect io.containerd.x.vx',
        ),
        (
            'version = 2\nrequired_plugins = ["a.b.c"]',
            'DIR/m.toml:2: required_plugins: invalid required plugin URI "a.b.c" expect io.containerd.x.vx',
        ),
        (
            "version = 2\n[plugins.cri]\nx = 1",
            'DIR/m.toml:2: plugins.cri: invalid plugin key URI "cri" expect io.containerd.x.vx',
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(files: Files, text: str, message: str) -> None:
    assert refused(files(m__toml=text)) == message


def test_unknown_keys_can_be_collected_instead(files: Files) -> None:
    seen: list[str] = []
    load(files(m__toml='foo = "bar"\n[nosuch]\na = 1'), lambda position: seen.append(position.key))
    assert seen == ["foo", "nosuch"]


@pytest.mark.parametrize(
    "version,by_id", [("", True), ("version = 1", True), ("version = 2", False), ("version = 99", False)]
)
def test_the_version_says_how_plugins_are_named(files: Files, version: str, by_id: bool) -> None:
    loaded = load(files(m__toml=version))
    assert loaded.by_id == by_id
    assert loaded.name(plugin("io.a.b.v1.x")) == ("x" if by_id else "io.a.b.v1.x")


def test_a_relative_import_is_relative_to_the_file_that_names_it(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    main = files(m__toml='version = 2\nimports = ["sub.toml"]', sub__toml='root = "/sub"')
    monkeypatch.chdir("/")
    assert load(main).root == "/sub"


def test_files_are_merged_breadth_first(files: Files) -> None:
    main = files(
        n0__toml='version = 2\nimports = ["n1.toml", "n2.toml"]\nroot = "/0"\nstate = "/0"',
        n1__toml='imports = ["n3.toml"]\nroot = "/1"\nstate = "/1"',
        n2__toml='root = "/2"\nstate = "/2"',
        n3__toml='root = "/3"',
    )
    loaded = load(main)
    assert (loaded.root, loaded.state) == ("/3", "/2")
    assert [Path(path).name for path in loaded.imports] == ["n0.toml", "n1.toml", "n2.toml", "n3.toml"]


def test_zero_values_override_nothing_and_tables_are_merged_by_key(files: Files) -> None:
    loaded = load(
        files(
            m__toml='version = 2\nimports = ["s.toml"]\noom_score = 5\n[grpc]\nuid = 5\ngid = 6',
            s__toml='oom_score = 0\nroot = ""\n[grpc]\ngid = 7\naddress = ""',
        )
    )
    assert (loaded.oom_score, loaded.grpc.uid, loaded.grpc.gid) == (5, 5, 7)
    assert loaded.root == "/var/lib/containerd"
    assert loaded.grpc.address == "/run/containerd/containerd.sock"


def test_lists_are_appended_and_maps_merged_by_key(files: Files) -> None:
    loaded = load(
        files(
            m__toml=(
                'version = 2\nimports = ["s.toml"]\ndisabled_plugins = ["a.b.c.d"]\n'
                '[timeouts]\n"a.b" = "1s"\n"c.d" = "1s"\n[proxy_plugins.p]\ntype = "snapshot"\naddress = "/a"'
            ),
            s__toml=(
                'disabled_plugins = ["a.b.c.d", "e.f.g.h"]\n[timeouts]\n"a.b" = "2s"\n'
                '[proxy_plugins.q]\ntype = "content"\n[proxy_plugins.p]\ntype = "content"'
            ),
        )
    )
    assert loaded.disabled_plugins == ["a.b.c.d", "a.b.c.d", "e.f.g.h"]
    assert (loaded.timeouts["a.b"], loaded.timeouts["c.d"]) == ("2s", "1s")
    assert loaded.proxy_plugins == {"p": ProxyPlugin("content", ""), "q": ProxyPlugin("content", "")}


def test_a_later_section_replaces_the_whole_section(files: Files) -> None:
    loaded = load(
        files(
            m__toml=f'version = 2\nimports = ["s.toml"]\n[plugins."{SCHEDULER}"]\na = 1\nb = 2',
            s__toml=f'[plugins."{SCHEDULER}"]\na = 9',
        )
    )
    section = loaded.section(plugin(SCHEDULER))
    assert section is not None
    assert section.values == {"a": 9}
    assert str(section.position).endswith(f's.toml:1: plugins."{SCHEDULER}"')


def test_circles_and_repeated_files_are_read_once(files: Files) -> None:
    main = files(
        m__toml='version = 2\nimports = ["b.toml", "./b.toml", "DIR/b.toml"]\ndisabled_plugins = ["a.b.c.d"]',
        b__toml='imports = ["m.toml", "b.toml"]\ndisabled_plugins = ["e.f.g.h"]',
    )
    assert load(main).disabled_plugins == ["a.b.c.d", "e.f.g.h"]


def test_a_missing_import_is_fatal(files: Files) -> None:
    assert refused(files(m__toml='imports = ["nope.toml"]')) == "open DIR/nope.toml: no such file or directory"


def test_a_pattern_is_read_in_lexical_order(files: Files, tmp_path: Path) -> None:
    main = files(m__toml='version = 2\nimports = ["DIR/conf.d/*.toml"]')
    (tmp_path / "conf.d").mkdir()
    assert load(main).root == "/var/lib/containerd", "no match is no error"
    for name, text in {"20.toml": 'root = "/20"', "10.toml": 'root = "/10"\nstate = "/s10"', "05.conf": "["}.items():
        (tmp_path / "conf.d" / name).write_text(text)
    loaded = load(main)
    assert (loaded.root, loaded.state) == ("/20", "/s10")


def test_a_relative_pattern_is_relative_to_the_working_directory(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = files(m__toml='version = 2\nimports = ["*.extra"]', a__extra='root = "/extra"')
    assert load(main).root == "/var/lib/containerd"
    monkeypatch.chdir(tmp_path)
    assert load(main).root == "/extra"


def test_a_malformed_pattern_is_refused(files: Files) -> None:
    message = refused(files(m__toml='version = 2\nimports = ["DIR/[*.toml"]'))
    assert message == 'DIR/m.toml:2: imports: syntax error in pattern "DIR/[*.toml"'


def test_other_pattern_characters_are_literal(files: Files) -> None:
    assert refused(files(m__toml='imports = ["1?.toml"]', a__toml="")).startswith("open DIR/1?.toml: no such file")


def test_an_import_with_version_1_turns_the_result_into_version_1(files: Files) -> None:
    loaded = load(files(m__toml='version = 2\nimports = ["s.toml"]', s__toml='version = 1\ndisabled_plugins = ["cri"]'))
    assert loaded.by_id


def test_an_import_without_a_version_has_that_of_the_main_file(files: Files) -> None:
    message = refused(files(m__toml='version = 2\nimports = ["s.toml"]', s__toml="[plugins.cri]\nx = 1"))
    assert message.startswith('DIR/s.toml:1: plugins.cri: invalid plugin key URI "cri"')


def test_the_ttrpc_address_follows_the_grpc_address_unless_it_is_set(files: Files) -> None:
    assert load(files(m__toml='[grpc]\naddress = "/a.sock"')).ttrpc_address == "/a.sock.ttrpc"
    assert load(files(m__toml='[grpc]\naddress = "/a.sock"\n[ttrpc]\naddress = "/t"')).ttrpc_address == "/t"
