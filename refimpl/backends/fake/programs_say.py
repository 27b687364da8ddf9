"""How built-in programs speak."""

from __future__ import annotations

from refimpl.backends.fake.processes import FakeProcess


def say(process: FakeProcess, text: str, status: int = 0) -> int:
    """Print ``text``; answers with ``status``."""
    if text:
        process.write(1, text.encode(errors="surrogateescape"))
    return status


def warn(process: FakeProcess, name: str, message: str, status: int = 1) -> int:
    """Print a message to the standard error; answers with ``status``."""
    process.write(2, f"{name.rpartition('/')[2]}: {message}\n".encode(errors="surrogateescape"))
    return status


def usage(process: FakeProcess, name: str, form: str) -> int:
    """Say how a program is called; answers with 1."""
    process.write(2, f"BusyBox (fake) multi-call binary.\n\nUsage: {name.rpartition('/')[2]} {form}\n".encode())
    return 1


def options_of(args: list[str]) -> tuple[set[str], list[str]]:
    """The letters of the options, and the other words."""
    letters: set[str] = set()
    words: list[str] = []
    for number, word in enumerate(args[1:], start=1):
        if word == "--":
            words.extend(args[number + 1 :])
            break
        if len(word) > 1 and word.startswith("-"):
            letters |= set(word[1:])
        else:
            words.append(word)
    return letters, words
