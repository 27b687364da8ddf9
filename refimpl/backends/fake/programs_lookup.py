"""From a command's name to the built-in program behind it.

A file of the root file system stands for the built-in program of its name, of the name that its symlinks lead to
(``/bin/sh`` to ``busybox``), or of its interpreter (``#!``). So an image's own files decide what can be run, though
none of them is executed. Clauses TSK-008, TSK-057.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refimpl.backends.fake.processes import FakeProcess, Program
from refimpl.backends.fake.processes_files import EXECUTE, absolute, check_access, real_path
from refimpl.contract.mounts import FileType

NOT_FOUND, NOT_EXECUTABLE = 127, 126

_INTERPRETERS_MAX = 4

Main = Callable[[FakeProcess, list[str]], int]
"""A built-in program: gets its process and command line, answers with the exit status."""


class LookupFailure(Exception):
    """A command that cannot be run; the text is that of Go's exec package, which runc shows.

    Attributes:
        status: what a shell makes of it.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Executable:
    """What a name stands for.

    Attributes:
        interpreter: the words before a script's path; none for a program.
    """

    main: Main
    path: str = ""
    interpreter: tuple[str, ...] = ()

    def program(self, args: Sequence[str]) -> Program:
        """It, with a command line, as a process runs it."""
        words = [*self.interpreter, self.path, *args[1:]] if self.interpreter else list(args)
        return lambda process: self.main(process, words)


def find(
    process: FakeProcess, name: str, path: str, programs: Mapping[str, Main], *, built_in_first: bool = False
) -> Executable:
    """What ``name`` stands for.

    Args:
        path: directories to look in, as in ``$PATH``.
        programs: the built-in ones; each can be run by its bare name though no file has it.
        built_in_first: they win over files, as in busybox's shell.

    Raises:
        LookupFailure: nothing can be run.
    """
    if "/" in name:
        return _executable(process, name, programs)
    if built_in_first and name in programs:
        return Executable(programs[name])
    for directory in path.split(":"):
        try:
            return _executable(process, f"{directory or '.'}/{name}", programs)
        except LookupFailure:
            continue
    if name in programs:
        return Executable(programs[name])
    raise LookupFailure("executable file not found in $PATH", NOT_FOUND)


def _executable(process: FakeProcess, name: str, programs: Mapping[str, Main], depth: int = 0) -> Executable:
    root = process.image.root
    try:
        real = real_path(process, name)
        found = root.lstat(real)
        if found.type is not FileType.FILE or not found.mode & 0o111:
            raise LookupFailure("permission denied", NOT_EXECUTABLE)
        check_access(process, found, EXECUTE, name)
    except PermissionError:
        raise LookupFailure("permission denied", NOT_EXECUTABLE) from None
    except OSError as error:
        text = (error.strerror or "").lower()
        raise LookupFailure(f"stat {name}: {text}", NOT_FOUND) from error
    for known in (name, real):
        main = programs.get(known.rpartition("/")[2])
        if main is not None:
            return Executable(main)
    with root.open(real) as file:
        head = file.read(256)
    if head.startswith(b"#!") and depth < _INTERPRETERS_MAX:
        words = head[2:].split(b"\n", 1)[0].decode(errors="replace").split(maxsplit=1)
        if words:
            inner = _executable(process, words[0], programs, depth + 1)
            return Executable(inner.main, absolute(process, name), (*inner.interpreter, *words))
    return Executable(_no_format, absolute(process, name))


def _no_format(process: FakeProcess, args: list[str]) -> int:
    """A file that stands for no built-in program: as for a program of another architecture."""
    process.write(2, f"exec {args[0]}: exec format error\n".encode())
    return 1
