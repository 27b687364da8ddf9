"""Where a value was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.kernel.config import Position
from refimpl.kernel.config.errors import line_of

TEXT = '''\
version = 2
# version = 3

list = [
    "a",
]
text = """
[grpc]
uid = 5
"""
[grpc]
  uid = 7
  "strange key".sub = 1

[plugins]
  [plugins."io.containerd.gc.v1.scheduler"]
    mutation_threshold = 7
point = { x = 1, y = 2 }
'''


@pytest.mark.parametrize(
    "keys,line",
    [
        (("version",), 1),
        (("list",), 4),
        (("text",), 7),
        (("grpc",), 11),
        (("grpc", "uid"), 12),
        (("grpc", "strange key", "sub"), 13),
        (("plugins", "io.containerd.gc.v1.scheduler", "mutation_threshold"), 17),
        (("plugins", "io.containerd.gc.v1.scheduler", "point", "y"), 18),
        (("nowhere",), 0),
    ],
)
def test_the_line_is_that_on_which_the_value_begins(keys: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, keys) == line


def test_a_position_reads_as_file_line_and_key() -> None:
    position = Position(Path("c.toml"), TEXT)
    assert str(position) == "c.toml"
    assert str(position.at("grpc", "uid")) == "c.toml:12: grpc.uid"
    assert str(position.at("grpc", "gid")) == "c.toml: grpc.gid"


def test_a_value_made_by_a_program_has_only_its_key() -> None:
    assert str(Position().at("a", "b c")) == 'a."b c"'
    assert str(Position().error("wrong")) == "wrong"


def test_a_log_line_gets_file_row_and_key() -> None:
    path = Path("c.toml")
    assert Position(path, TEXT, ("grpc", "uid")).fields() == {"file": path, "row": 12, "key": "uid"}
