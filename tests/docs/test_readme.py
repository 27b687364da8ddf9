"""The README says what is so: its program prints what it claims, and its commands and links exist."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.catalogue import load
from refimpl.cli import COMMANDS

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/guide/{name}.md" for name in ("quickstart", "conformance", "plugin-authors", "writing-a-check", "gc-why")),
)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(repository: Path) -> list[tuple[str, str]]:
    """Each shell command that a document shows, with the document's name."""
    return [
        (name, line.removeprefix("$ "))
        for name in DOCUMENTS
        for block in blocks((repository / name).read_text(encoding="utf-8"), "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def test_the_program_prints_what_the_readme_says(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    program, printed = blocks(text, "python")[0], blocks(text, "text")[0]

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (run.stdout, run.stderr) == (printed, "")


def test_every_make_command_has_a_target(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {line.split()[1] for _, line in commands(repository) if line.startswith("make ")}

    assert {"conform", "test"} <= shown <= targets


def test_every_refimpl_command_is_one(repository: Path) -> None:
    there = {command.name for command in COMMANDS}
    shown = {line.split()[1] for _, line in commands(repository) if line.startswith("refimpl ")}

    assert {"serve", "plugins"} <= shown <= there


def test_the_readme_lists_every_command(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")

    assert [command.name for command in COMMANDS if f"| `refimpl {command.name}" not in text] == []


def test_what_the_guide_shows_as_python_is_python(repository: Path) -> None:
    for path in sorted(repository.glob("docs/guide/*.md")):
        for block in blocks(path.read_text(encoding="utf-8"), "python"):
            compile(block, str(path), "exec")


def test_every_clause_that_the_guide_names_exists(repository: Path) -> None:
    made_up = {"NSP-099"}  # an example of what is not there
    named = {
        id
        for path in [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
        for id in re.findall(r"\b[A-Z]{2,4}[0-9]?-\d{3}\b", path.read_text(encoding="utf-8"))
    }

    assert named - made_up <= set(load())


def test_every_tox_environment_that_a_document_names_exists(repository: Path) -> None:
    tox = configparser.ConfigParser()
    tox.read(repository / "tox.ini")
    there = {section.removeprefix("testenv:") for section in tox.sections()}
    named = {
        environment
        for path in [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
        for names in re.findall(r"tox (?:run )?-e ([a-z,]+)", path.read_text(encoding="utf-8"))
        for environment in names.split(",")
    }

    assert named <= there


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_link_leads_to_a_file(repository: Path, name: str) -> None:
    prose = re.sub(r"^```.*?^```", "", (repository / name).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", prose)

    assert links
    assert [link for link in links if not (repository / link).exists()] == []


def test_the_walk_through_the_source_names_functions_that_are_there(repository: Path) -> None:
    text = (repository / "docs/guide/reading.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \| `(.+?)` \| `(.+?)` \|$", text, re.MULTILINE)

    assert len(steps) >= 6
    assert [step for step in steps if not defines(repository / step[0], step[1])] == []


def defines(path: Path, name: str) -> bool:
    """Whether a module defines a function or a class's method of that dotted name."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True
