"""The built-in programs that fake processes run, by name: busybox's everyday ones, and two that use resources.

A program is a plain function of its process and command line; it prints what busybox prints, with its messages and
exit statuses, as far as a container's user or a check is likely to look. ``allocate BYTES`` holds memory until it is
killed, ``burn SECONDS`` uses processor time: they are how a test drives limits without a real load.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from refimpl.backends.fake.processes import FakeProcess
from refimpl.backends.fake.processes_files import read_all
from refimpl.backends.fake.programs_files import FILE_PROGRAMS
from refimpl.backends.fake.programs_host import HOST_PROGRAMS
from refimpl.backends.fake.programs_lookup import Executable, Main, find
from refimpl.backends.fake.programs_say import say, warn
from refimpl.backends.fake.programs_text import TEXT_PROGRAMS
from refimpl.backends.fake.shell import Shell
from refimpl.backends.fake.shell_commands import read_line
from refimpl.backends.fake.shell_parser import parse
from refimpl.backends.fake.shell_syntax import SyntaxFailure

_MORE = b"> "


def lookup(process: FakeProcess, name: str, path: str) -> Executable:
    """What a name stands for, files first.

    Raises:
        LookupFailure: nothing can be run.
    """
    return find(process, name, path, PROGRAMS)


def _sh(process: FakeProcess, args: list[str]) -> int:
    options, words = [], args[1:]
    while words and words[0][:1] in {"-", "+"} and words[0] not in {"-", "--"}:
        options.append(words.pop(0))
    letters = {letter for option in options if option.startswith("-") for letter in option[1:]}
    if "c" in letters:
        if not words:
            return warn(process, args[0], "-c requires an argument", 2)
        shell = Shell(process, words[1] if len(words) > 1 else args[0], words[2:], PROGRAMS)
        shell.options |= letters & set("aefux")
        return _script(shell, words[0])
    if words and "s" not in letters:
        try:
            text = read_all(process, words[0]).decode(errors="surrogateescape")
        except OSError as error:
            return warn(process, args[0], f"can't open '{words[0]}': {error.strerror}", 2)
        shell = Shell(process, words[0], words[1:], PROGRAMS)
        shell.options |= letters & set("aefux")
        return _script(shell, text)
    shell = Shell(process, args[0], words, PROGRAMS)
    shell.interactive = "i" in letters or process.stream(0).terminal is not None
    return _lines(shell)


def _script(shell: Shell, text: str) -> int:
    try:
        node = parse(text)
    except SyntaxFailure as failure:
        shell.complain(str(failure))
        return 2
    return shell.main(node, last=True)


def _lines(shell: Shell) -> int:
    """Read commands from the standard input, and run each before the next is read."""
    if shell.interactive:
        shell.process.signals.ignore(signal.SIGTERM)
        shell.process.signals.ignore(signal.SIGQUIT)
    text, ended = "", False
    while not ended:
        if shell.interactive:
            shell.process.write(2, _MORE if text else _prompt(shell))
        try:
            line, ended = read_line(shell, raw=True)
        except InterruptedError:
            if shell.interactive:
                shell.process.write(2, b"\n")
                shell.process.caught.clear()
                text = ""
            shell.run_traps()
            continue
        text += line if ended else f"{line}\n"
        try:
            node = parse(text)
        except SyntaxFailure as failure:
            if failure.incomplete and not ended:
                continue
            shell.complain(str(failure))
            shell.status = 2
            if not shell.interactive:
                return 2
        else:
            if not shell.step(node):
                break
        text = ""
    return shell.finish()


def _prompt(shell: Shell) -> bytes:
    return f"{shell.process.cwd} {'$' if shell.process.image.uid else '#'} ".encode()


def _busybox(process: FakeProcess, args: list[str]) -> int:
    if len(args) < 2:
        return say(process, "BusyBox (fake) multi-call binary.\n\nUsage: busybox [function [arguments]...]\n")
    if args[1] == "--list":
        return say(process, "".join(f"{name}\n" for name in sorted(PROGRAMS)))
    main = PROGRAMS.get(args[1].rpartition("/")[2])
    if main is None:
        process.write(2, f"{args[1]}: applet not found\n".encode())
        return 127
    return main(process, args[1:])


PROGRAMS: Mapping[str, Main] = {
    **TEXT_PROGRAMS,
    **FILE_PROGRAMS,
    **HOST_PROGRAMS,
    "ash": _sh,
    "busybox": _busybox,
    "sh": _sh,
}
"""All of them, by name."""
