"""The fake shell's own commands: those that change the shell itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from refimpl.backends.fake.processes import Exited
from refimpl.backends.fake.processes_files import absolute, read_all, stat
from refimpl.backends.fake.processes_signals import number_of
from refimpl.backends.fake.programs_lookup import LookupFailure, find
from refimpl.backends.fake.shell_syntax import NAME, NAME_START
from refimpl.contract.mounts import FileType

if TYPE_CHECKING:
    from refimpl.backends.fake.shell import Shell


class Broken(Exception):
    """``break`` and ``continue``.

    Attributes:
        levels: loops still to leave.
        again: whether the last of them goes on.
    """

    def __init__(self, levels: int, *, again: bool) -> None:
        super().__init__()
        self.levels, self.again = levels, again


class Returned(Exception):
    """``return``.

    Attributes:
        status: of the function.
    """

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def _colon(_shell: Shell, _args: list[str]) -> int:
    return 0


def _exit(shell: Shell, args: list[str]) -> int:
    raise Exited(_status(shell, args, "exit"))


def _return(shell: Shell, args: list[str]) -> int:
    raise Returned(_status(shell, args, "return"))


def _status(shell: Shell, args: list[str], name: str) -> int:
    if len(args) < 2:
        return shell.status
    if not args[1].isdecimal():
        shell.complain(f"{name}: line 0: Illegal number: {args[1]}")
        raise Exited(2)
    return int(args[1]) & 0xFF


def _break(shell: Shell, args: list[str]) -> int:
    if not shell.loops:
        return 0
    shell.status = 0
    levels = int(args[1]) if len(args) > 1 and args[1].isdecimal() else 1
    raise Broken(max(1, levels), again=args[0] == "continue")


def _cd(shell: Shell, args: list[str]) -> int:
    to = args[1] if len(args) > 1 else shell.get("HOME") or "/"
    if to == "-":
        to = shell.get("OLDPWD") or shell.process.cwd
    try:
        if stat(shell.process, to).type is not FileType.DIRECTORY:
            raise NotADirectoryError(20, "Not a directory")
    except OSError as error:
        shell.complain(f"cd: line 0: can't cd to {to}: {error.strerror}")
        return 2
    parts: list[str] = []
    for part in absolute(shell.process, to).split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    shell.set("OLDPWD", shell.process.cwd)
    shell.process.cwd = "/" + "/".join(parts)
    shell.set("PWD", shell.process.cwd)
    return 0


def _export(shell: Shell, args: list[str]) -> int:
    for word in args[1:]:
        name, equals, value = word.partition("=")
        if name == "-p":
            continue
        if not _is_name(name):
            shell.complain(f"export: line 0: {word}: bad variable name")
            return 2
        if equals:
            shell.set(name, value)
        if args[0] == "export":
            shell.exported.add(name)
    if len(args) == 1 or args[1] == "-p":
        lines = [f"export {name}='{shell.variables[name]}'\n" for name in sorted(shell.environment())]
        shell.process.write(1, "".join(lines).encode(errors="surrogateescape"))
    return 0


def _unset(shell: Shell, args: list[str]) -> int:
    for name in args[1:]:
        shell.variables.pop(name, None)
        shell.exported.discard(name)
        shell.functions.pop(name, None)
    return 0


def _set(shell: Shell, args: list[str]) -> int:
    if len(args) == 1:
        lines = [f"{name}='{value}'\n" for name, value in sorted(shell.variables.items())]
        shell.process.write(1, "".join(lines).encode(errors="surrogateescape"))
        return 0
    for number, word in enumerate(args[1:], start=1):
        if word == "--":
            shell.set_parameters(args[number + 1 :])
            return 0
        if word[:1] not in {"-", "+"}:
            shell.set_parameters(args[number:])
            return 0
        for letter in word[1:]:
            (shell.options.add if word[0] == "-" else shell.options.discard)(letter)
    return 0


def _shift(shell: Shell, args: list[str]) -> int:
    count = int(args[1]) if len(args) > 1 and args[1].isdecimal() else 1
    if count > len(shell.parameters()):
        return 1
    shell.set_parameters(shell.parameters()[count:])
    return 0


def _trap(shell: Shell, args: list[str]) -> int:
    words = [word for word in args[1:] if word != "--"]
    if not words:
        lines = [f"trap -- '{command}' {name}\n" for name, command in shell.traps.items()]
        shell.process.write(1, "".join(lines).encode(errors="surrogateescape"))
        return 0
    # A single word, or a number first, takes traps back.
    command = None if len(words) == 1 or words[0] == "-" or words[0].isdecimal() else words[0]
    names = words if len(words) == 1 or words[0].isdecimal() else words[1:]
    status = 0
    for name in names:
        if name in {"EXIT", "0"}:
            _choose(shell, "EXIT", command)
            continue
        number = number_of(name)
        if number is None:
            shell.complain(f"trap: line 0: {name}: invalid signal specification")
            status = 1
            continue
        _choose(shell, signal.Signals(number).name.removeprefix("SIG"), command)
        signals = shell.process.signals
        if command is None:
            (signals.catch if number == signal.SIGINT else signals.default)(number)
        elif command:
            signals.catch(number)
        else:
            signals.ignore(number)
    return status


def _choose(shell: Shell, name: str, command: str | None) -> None:
    if command is None:
        shell.traps.pop(name, None)
    else:
        shell.traps[name] = command


def _wait(shell: Shell, args: list[str]) -> int:
    process = shell.process
    shell.run_traps()
    children = list(process.children)
    if len(args) > 1:
        pids = {int(word) for word in args[1:] if word.isdecimal()}
        children = [child for child in children if child.inner_pid in pids]
        if not children:
            return 127
    status = 0
    for child in children:
        if not process.wait_until(child.ended.is_set, child):
            # A trap is run before the next command; the child goes on.
            return 128 + process.caught[0]
        status = process.wait_for(child)
    return status if len(args) > 1 else 0


def _eval(shell: Shell, args: list[str]) -> int:
    shell.status = 0
    shell.run_text(" ".join(args[1:]))
    return shell.status


def _source(shell: Shell, args: list[str]) -> int:
    if len(args) < 2:
        return 2
    try:
        text = read_all(shell.process, args[1]).decode(errors="surrogateescape")
    except OSError:
        shell.complain(f".: line 0: can't open '{args[1]}'")
        raise Exited(2) from None
    shell.status = 0
    try:
        shell.run_text(text)
    except Returned as returned:
        return returned.status
    return shell.status


def _exec(shell: Shell, args: list[str]) -> int:
    if len(args) == 1:
        return 0
    try:
        found = find(shell.process, args[1], shell.get("PATH") or "", shell.programs, built_in_first=True)
    except LookupFailure as failure:
        shell.complain(f"exec: line 0: {args[1]}: {'Permission denied' if failure.status == 126 else 'not found'}")
        raise Exited(failure.status) from None
    shell.replace(found.program(args[1:]), args[1:])
    return 0


def _read(shell: Shell, args: list[str]) -> int:
    raw = "-r" in args
    names = [word for word in args[1:] if not word.startswith("-")] or ["REPLY"]
    line, ended = _line_after_traps(shell, raw=raw)
    words = line.split(maxsplit=len(names) - 1)
    for number, name in enumerate(names):
        shell.set(name, words[number].rstrip() if number < len(words) else "")
    return 1 if ended else 0


def _line_after_traps(shell: Shell, *, raw: bool) -> tuple[str, bool]:
    while True:
        shell.run_traps()
        try:
            return read_line(shell, raw=raw)
        except InterruptedError:
            # What was read of the line so far is lost; a person types it again.
            continue


def read_line(shell: Shell, *, raw: bool) -> tuple[str, bool]:
    """A line from the standard input, byte by byte: what follows is for others.

    Returns:
        The line, and whether the input ended in it.

    Raises:
        InterruptedError: a signal was caught meanwhile.
    """
    stream = shell.process.stream(0)
    line = bytearray()
    while True:
        byte = stream.read(shell.process, 1)
        if not byte:
            return line.decode(errors="surrogateescape"), True
        if byte == b"\\" and not raw:
            following = stream.read(shell.process, 1)
            line += b"" if following == b"\n" else following
        elif byte == b"\n":
            return line.decode(errors="surrogateescape"), False
        else:
            line += byte


def _umask(shell: Shell, args: list[str]) -> int:
    if len(args) > 1:
        shell.process.umask = int(args[1], 8) & 0o777
    else:
        shell.process.write(1, f"{shell.process.umask:04o}\n".encode())
    return 0


def _command(shell: Shell, args: list[str]) -> int:
    words = [word for word in args[1:] if not word.startswith("-")]
    if args[0] != "type" and "-v" not in args:
        shell.run_text(" ".join(f"'{word}'" for word in args[1:]))
        return shell.status
    status = 0
    for word in words:
        try:
            known = word in COMMANDS or word in shell.functions or word in shell.programs
            path = word if known else find(shell.process, word, shell.get("PATH") or "", shell.programs).path or word
        except LookupFailure:
            status = 127
            continue
        shell.process.write(1, f"{path}\n".encode())
    return status


def _is_name(text: str) -> bool:
    return bool(text) and text[0] in NAME_START and set(text) <= NAME


COMMANDS: Mapping[str, Callable[[Shell, list[str]], int]] = {
    ":": _colon,
    ".": _source,
    "source": _source,
    "break": _break,
    "cd": _cd,
    "command": _command,
    "continue": _break,
    "eval": _eval,
    "exec": _exec,
    "exit": _exit,
    "export": _export,
    "local": _export,
    "read": _read,
    "readonly": _export,
    "return": _return,
    "set": _set,
    "shift": _shift,
    "trap": _trap,
    "type": _command,
    "umask": _umask,
    "unset": _unset,
    "wait": _wait,
}
"""The commands by name."""
