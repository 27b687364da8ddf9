"""Platforms and names: pure functions, with the tables of the clauses."""

from __future__ import annotations

import pytest

from refimpl.client.platforms import Choice, host, normalized, parse
from refimpl.client.references import familiar, tag_of
from refimpl.client.references import normalized as full_name
from refimpl.client.unpack import chain_ids
from refimpl.contract.errors import InvalidArgument
from refimpl.contract.types import Platform


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/X86-64", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("windows/amd64", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
    ],
)
def test_a_platform_has_one_spelling(text: str, wanted: str) -> None:
    assert str(parse(text)) == wanted


def test_an_architecture_alone_is_for_this_system() -> None:
    assert parse("arm64") == Platform(host().os, "arm64")


@pytest.mark.parametrize("text", ["", "bad/////", "a/b/c/d", "linux/am d64", "linux/"])
def test_a_platform_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


def test_one_platform_accepts_no_other() -> None:
    only = Choice.only(parse("linux/amd64"))

    assert only.accepts(Platform("linux", "x86_64"))
    assert only.accepts(None)
    assert not only.accepts(Platform("linux", "386"))
    assert not only.accepts(Platform("linux", "amd64", "v2"))


def test_this_machine_comes_first_and_what_states_nothing_last() -> None:
    choice = Choice.default()

    assert choice.accepts(host())
    assert choice.rank(host()) == 0
    assert choice.rank(None) > choice.rank(Platform("plan9", "mips")) > 0
    assert Choice.every().accepts(Platform("plan9", "mips"))
    assert normalized(host()) == host()


@pytest.mark.parametrize(
    "name, full, short",
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("localhost/app:2", "localhost/app:2", "localhost/app:2"),
        ("reg.io:5000/a/b__c:1", "reg.io:5000/a/b__c:1", "reg.io:5000/a/b__c:1"),
        ("a@sha256:" + "a" * 64, "docker.io/library/a@sha256:" + "a" * 64, "a@sha256:" + "a" * 64),
    ],
)
def test_a_familiar_name_has_a_full_form_and_back(name: str, full: str, short: str) -> None:
    assert full_name(name) == full
    assert familiar(full) == short


@pytest.mark.parametrize("name", ["", "UPPER/Bad:tag", "a:", "a b", "-x", "a//b"])
def test_a_name_that_docker_does_not_know_is_refused_and_shown_as_it_is(name: str) -> None:
    with pytest.raises(InvalidArgument):
        full_name(name)
    assert familiar(name) == name


@pytest.mark.parametrize(
    "name, tag",
    [
        ("reg.io:5000/a/b:1", "1"),
        ("reg.io/a", ""),
        ("idx:1", ""),
        ("reg.io/a@sha256:ab", "@sha256:ab"),
        ("reg.io/a:1@sha256:ab", "1@sha256:ab"),
    ],
)
def test_the_tag_is_what_follows_the_repository(name: str, tag: str) -> None:
    assert tag_of(name) == tag


def test_a_chain_id_covers_all_layers_below() -> None:
    assert chain_ids([]) == []
    assert chain_ids(["sha256:a"]) == ["sha256:a"]
    # The digest of each text "chain id, blank, diff id", from sha256sum.
    assert chain_ids(["sha256:a", "sha256:b", "sha256:c"])[1:] == [
        "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8",
        "sha256:dee159b33409cefa3f6eda71539f006014283e9d9130c18a1dea7bd8a33c9b1b",
    ]
