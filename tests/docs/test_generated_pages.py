"""The generated pages say what the suite and the commands say: a clause's checks and mutants, a command's options."""

from __future__ import annotations

import pytest

from conformance.areas import AREAS, BUILT
from conformance.catalogue import load
from docs.hooks import clauses, commands
from refimpl import cli

CLAUSE = next(iter(load().values()))


def page(evidence: clauses.Evidence) -> str:
    return clauses.area_page(CLAUSE.area, [CLAUSE], evidence)


def test_a_clause_is_shown_with_the_checks_that_decide_it_and_the_mutants_that_they_catch() -> None:
    id = CLAUSE.id
    text = page(clauses.Evidence({id: ["test_no_ref_is_refused"]}, {id: [f"{id}/an-empty-ref"]}, {}))

    assert "<dt>Decided by</dt><dd>no ref is refused</dd>" in text
    assert f"<dt>Mutants</dt><dd><code>{id}/an-empty-ref</code></dd>" in text
    assert "1 have checks; 1 mutants." in text
    assert "No check" not in text


def test_a_clause_without_a_check_says_why() -> None:
    text = page(clauses.Evidence({}, {}, {CLAUSE.id: "nobody can <see> it"}))

    assert "<dt>No check</dt><dd>nobody can &lt;see&gt; it</dd>" in text
    assert "0 have checks; 0 mutants." in text


@pytest.mark.parametrize("area", BUILT)
def test_every_clause_of_an_area_with_checks_has_one_or_a_reason(area: str) -> None:
    known = clauses.evidence(area)
    bare = [id for id, clause in load().items() if clause.area == area and not known.rows(clause)]

    assert bare == []


def test_an_area_without_checks_gives_its_reason_for_each_clause() -> None:
    area = next(area for area in AREAS.values() if area.reason)
    known = clauses.evidence(area.name)
    rows = {known.rows(clause)["No check"] for clause in load().values() if clause.area == area.name}

    assert rows == {area.reason}


def test_every_command_has_a_section() -> None:
    text = commands.pages()["commands.md"]
    words = [found for found, _ in commands.tree()]

    assert {found.split()[1] for found in words} == {command.name for command in cli.COMMANDS}
    assert [found for found in words if f"## `{found}`\n" not in text] == []


def test_a_commands_section_has_each_option_with_its_default_and_help() -> None:
    sections = {words: commands.entry(words, command) for words, command in commands.tree()}

    assert (
        "| `-n`, `--workers` *N* | Processes; 0 for this one alone. (default: `auto`) |" in sections["refimpl conform"]
    )
    assert "refimpl gc why [OPTIONS] OBJECT\n" in sections["refimpl gc why"]
    assert "environment: `CONTAINERD_ADDRESS`" in sections["refimpl gc why"]
    assert "(required)" in sections["refimpl serve-plugin"]


def test_lines_that_belong_together_in_a_help_text_stay_so() -> None:
    text = dict(commands.tree())["refimpl conform"].help
    section = commands.entry("refimpl conform", dict(commands.tree())["refimpl conform"])

    assert "\b" in text
    assert "\nfake  " in section
    assert "\b" not in section
