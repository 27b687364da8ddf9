"""What the guide shows of the fake containerd is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLE = re.compile(r"<!-- runs -->\n```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", re.DOTALL)


def test_each_program_prints_what_the_guide_says(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (repository / "docs/guide/testing.md").read_text(encoding="utf-8")
    examples = EXAMPLE.findall(text)

    assert len(examples) == text.count("<!-- runs -->") > 0
    for program, printed in examples:
        exec(compile(program, "testing.md", "exec"), {})
        assert tuple(capfd.readouterr()) == (printed, "")
