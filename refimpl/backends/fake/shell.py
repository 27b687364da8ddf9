"""The fake shell: runs what ``shell_parser`` read, with processes, pipes and traps of the fake host.

Like busybox's ash it knows its own programs without looking for them, runs the last command of ``-c`` in its own
place, and runs traps between commands. Clauses TSK-036, TSK-041 (what a program does with a signal is its own matter).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from refimpl.backends.fake.processes import Exited, FakeProcess
from refimpl.backends.fake.processes_files import open_file
from refimpl.backends.fake.programs_lookup import LookupFailure, Main, find
from refimpl.backends.fake.shell_commands import COMMANDS, Broken, Returned
from refimpl.backends.fake.shell_expand import Expander, ExpansionFailure
from refimpl.backends.fake.shell_parser import parse
from refimpl.backends.fake.shell_syntax import (
    AndOr,
    Case,
    For,
    Function,
    If,
    Loop,
    Node,
    Pipeline,
    Redirect,
    Redirected,
    Sequence,
    Simple,
    Subshell,
    SyntaxFailure,
)
from refimpl.backends.fake.stdio_streams import NullStream, Pipe, Stream

if TYPE_CHECKING:
    from refimpl.backends.fake.terminal import Terminal

COMMAND_COST = 400_000
"""Nanoseconds of processor time of a command: a busy loop gets round so often that it costs little real time."""

_DATA_LIMIT = 48 << 20
_BIG = 1024
_COPIES = 4  # old value, new value, and two buffers of the expansion


INSIDE = frozenset({"echo", "printf", "test", "[", "true", "false", "pwd", "kill"})
"""Programs that the shell runs without a process of their own."""


class Aborted(Exception):
    """The interrupt key: an interactive shell gives up the commands of the line."""


class Shell:
    """One shell in one process.

    Args:
        parameters: ``$1`` and so on.
        known_programs: the built-in programs, found before any file.

    Attributes:
        name: ``$0``, and what messages begin with.
        status: ``$?``.
        exported: names of variables that programs get.
        traps: commands by signal name, ``EXIT`` among them; empty to ignore.
        interactive: prompts, and keeps interrupts to the command that runs.
        options: letters that ``set`` switched on.
    """

    def __init__(
        self, process: FakeProcess, name: str, parameters: list[str], known_programs: Mapping[str, Main]
    ) -> None:
        self.process = process
        self.programs = known_programs
        self.name = name
        self.status = 0
        self.variables: dict[str, str] = dict(process.env)
        self.exported: set[str] = set(process.env)
        self.functions: dict[str, Node] = {}
        self.traps: dict[str, str] = {}
        self.interactive = False
        self.options: set[str] = set()
        self.pid = process.inner_pid
        self.last_background: FakeProcess | None = None
        self.loops = 0
        self._parameters = parameters
        self._expander = Expander(self)
        self._data = 0
        self._tested = 0
        self.variables["PWD"] = process.cwd
        self.variables.setdefault("HOSTNAME", process.image.hostname)
        self.variables["SHLVL"] = str(_number(self.variables.get("SHLVL", "0")) + 1)
        self.exported |= {"PWD", "SHLVL"}
        process.signals.catch(signal.SIGINT)

    # --- what words mean (shell_expand.Values)

    def get(self, name: str) -> str | None:
        match name:
            case "?":
                return str(self.status)
            case "$":
                return str(self.pid)
            case "!":
                return "" if self.last_background is None else str(self.last_background.inner_pid)
            case "#":
                return str(len(self._parameters))
            case "0":
                return self.name
            case "-":
                return "".join(sorted(self.options))
            case "@" | "*":
                return " ".join(self._parameters)
        if name.isdecimal():
            number = int(name) - 1
            return self._parameters[number] if number < len(self._parameters) else None
        value = self.variables.get(name)
        if value is None and "u" in self.options:
            raise ExpansionFailure(f"{name}: parameter not set")
        return value

    def set(self, name: str, value: str) -> None:
        grown = len(value) - len(self.variables.get(name, ""))
        if len(value) > _BIG or grown < -_BIG:
            if self._data + grown > _DATA_LIMIT:
                self.complain("out of memory")
                raise Exited(1)
            self.process.allocate(grown * _COPIES)
            self._data += grown
        self.variables[name] = value
        if "a" in self.options:
            self.exported.add(name)

    def parameters(self) -> list[str]:
        return self._parameters

    def set_parameters(self, parameters: list[str]) -> None:
        """Replace ``$1`` and so on."""
        self._parameters = parameters

    def output_of(self, script: Node) -> str:
        pipe = Pipe()
        child = self.fork(script, {**self.process.streams, 1: pipe.writer})
        pipe.writer.close()
        out = bytearray()
        while True:
            try:
                data = pipe.reader.read(self.process, 1 << 16)
            except InterruptedError:
                continue  # the trap is run after the command
            if not data:
                break
            out += data
        pipe.reader.close()
        self.status = self.process.wait_for(child)
        return out.decode(errors="surrogateescape")

    # --- running

    def main(self, node: Node, *, last: bool = False) -> int:
        """Run a whole script; answers with the exit status.

        Args:
            last: nothing comes after it, so its last command may take the process over.
        """
        try:
            self.run(node, last=last)
        except Exited as exited:
            self.status = exited.status
        except (ExpansionFailure, SyntaxFailure) as error:
            self.complain(str(error))
            self.status = 2
        except (Broken, Returned):
            # Outside of any loop and function they end the script.
            pass
        return self.finish()

    def step(self, node: Node) -> bool:
        """Run one command of many; False when the shell is to end."""
        try:
            self.run(node)
            self.run_traps()
        except Exited as exited:
            self.status = exited.status
            return False
        except (ExpansionFailure, SyntaxFailure) as error:
            self.complain(str(error))
            self.status = 2
            return self.interactive
        except Aborted:
            self.status = 128 + signal.SIGINT
        except (Broken, Returned):
            # As in main.
            pass
        return True

    def finish(self) -> int:
        """Run the trap of the end; answers with the exit status."""
        command = self.traps.pop("EXIT", "")
        if command:
            status = self.status
            try:
                self.run_text(command)
            except Exited as exited:
                status = exited.status
            self.status = status
        return self.status

    def run_text(self, text: str) -> None:
        """Run a script that is a text: of a trap, ``eval`` or ``.``.

        Raises:
            SyntaxFailure: it cannot be read.
        """
        self.run(parse(text))

    def run(self, node: Node, *, last: bool = False) -> None:
        """Run a command; sets ``status``."""
        match node:
            case Simple():
                self._simple(node, last=last and not self.traps)
            case Sequence(items):
                self._sequence(items, last=last)
            case AndOr(left, op, right):
                with self._testing():
                    self.run(left)
                if (self.status == 0) is (op == "&&"):
                    self.run(right, last=last)
            case Pipeline():
                self._pipeline(node)
            case Subshell(body):
                self.status = self.wait(self.fork(body))
            case Redirected(body, redirects):
                with self._redirected(redirects) as opened:
                    if opened:
                        self.run(body)
            case _:
                self._compound(node, last=last)

    def _compound(self, node: If | Loop | For | Case | Function, *, last: bool) -> None:
        match node:
            case If():
                self._if(node, last=last)
            case Loop() | For():
                self._loop(node)
            case Case():
                self._case(node, last=last)
            case Function(name, body):
                self.functions[name] = body
                self.status = 0

    def _case(self, node: Case, *, last: bool) -> None:
        text = self._expander.text(node.word)
        self.status = 0
        for patterns, body in node.branches:
            if any(self._expander.pattern(pattern)(text) for pattern in patterns):
                self.run(body, last=last)
                return

    def _sequence(self, items: tuple[tuple[Node, bool], ...], *, last: bool) -> None:
        for number, (node, wait) in enumerate(items):
            if wait:
                self.run(node, last=last and number == len(items) - 1)
            else:
                streams = dict(self.process.streams) if self.interactive else {**self.process.streams, 0: NullStream()}
                self.last_background = self.fork(node, streams)
                self.status = 0
            self.run_traps()

    @contextmanager
    def _testing(self) -> Iterator[None]:
        """``set -e`` does not look here."""
        self._tested += 1
        try:
            yield
        finally:
            self._tested -= 1

    def _if(self, node: If, *, last: bool) -> None:
        for condition, body in node.branches:
            with self._testing():
                self.run(condition)
            if self.status == 0:
                self.run(body, last=last)
                return
        self.status = 0
        if node.otherwise is not None:
            self.run(node.otherwise, last=last)

    def _loop(self, node: Loop | For) -> None:
        self.loops += 1
        try:
            for _ in self._rounds(node):
                try:
                    self.run(node.body)
                except Broken as broken:
                    if broken.levels > 1 and self.loops > 1:
                        raise Broken(broken.levels - 1, again=broken.again) from None
                    if not broken.again:
                        break
        finally:
            self.loops -= 1

    def _rounds(self, node: Loop | For) -> Iterator[None]:
        if isinstance(node, For):
            values = self._parameters if node.words is None else self._expander.fields(node.words)
            self.status = 0
            for value in list(values):
                self.set(node.name, value)
                yield
            return
        status = 0
        while True:
            with self._testing():
                self.run(node.condition)
            if (self.status == 0) is node.until:
                self.status = status
                return
            yield
            status = self.status
            self.run_traps()

    def _pipeline(self, node: Pipeline) -> None:
        if len(node.commands) == 1:
            with self._testing():
                self.run(node.commands[0])
        else:
            self.status = self._piped(node.commands)
        if node.negated:
            self.status = int(self.status == 0)

    def _piped(self, commands: tuple[Node, ...]) -> int:
        children: list[FakeProcess] = []
        source: Stream | None = None
        for number, command in enumerate(commands):
            streams = dict(self.process.streams)
            if source is not None:
                streams[0] = source
            pipe = Pipe() if number < len(commands) - 1 else None
            if pipe is not None:
                streams[1] = pipe.writer
            children.append(self.fork(command, streams))
            if source is not None:
                source.close()
            source = None
            if pipe is not None:
                pipe.writer.close()
                source = pipe.reader
        return [self.wait(child) for child in children][-1]

    # --- simple commands

    def _simple(self, node: Simple, *, last: bool) -> None:
        self.process.compute(COMMAND_COST)
        if not node.words:
            self._assign(node)
            return
        args = self._expander.fields(node.words)
        with self._redirected(node.redirects) as opened:
            if not opened:
                return
            if not args:
                self.status = 0
                return
            if "x" in self.options:
                self.process.write(2, f"+ {' '.join(args)}\n".encode())
            self._command(node, args, last=last)
        if self.status and "e" in self.options and not self._tested:
            raise Exited(self.status)

    def _assign(self, node: Simple) -> None:
        self.status = 0
        with self._redirected(node.redirects) as opened:
            for name, word in node.assignments if opened else ():
                self.set(name, self._expander.text(word))

    def _command(self, node: Simple, args: list[str], *, last: bool) -> None:
        own: Callable[[Shell, list[str]], int] | None = COMMANDS.get(args[0])
        if args[0] in self.functions:
            with self._temporary(node):
                self._call(self.functions[args[0]], args[1:])
        elif own is not None:
            # Assignments before a special command stay.
            for name, word in node.assignments:
                self.set(name, self._expander.text(word))
            self.status = own(self, args) & 0xFF
        elif args[0] in INSIDE:
            with self._temporary(node):
                self.status = self.programs[args[0]](self.process, args) & 0xFF
        else:
            with self._temporary(node, export=True):
                self._program(args, last=last)

    @contextmanager
    def _temporary(self, node: Simple, *, export: bool = False) -> Iterator[None]:
        """Assignments for the time of one command."""
        if not node.assignments:
            yield
            return
        variables, exported = dict(self.variables), set(self.exported)
        for name, word in node.assignments:
            self.variables[name] = self._expander.text(word)
            if export:
                self.exported.add(name)
        try:
            yield
        finally:
            self.variables, self.exported = variables, exported

    def _call(self, body: Node, args: list[str]) -> None:
        before, self._parameters = self._parameters, args
        try:
            self.run(body)
        except Returned as returned:
            self.status = returned.status
        finally:
            self._parameters = before

    def environment(self) -> dict[str, str]:
        """What programs get."""
        return {name: value for name, value in self.variables.items() if name in self.exported}

    def _program(self, args: list[str], *, last: bool) -> None:
        try:
            found = find(self.process, args[0], self.variables.get("PATH", ""), self.programs, built_in_first=True)
        except LookupFailure as failure:
            self.complain(f"{args[0]}: {'Permission denied' if failure.status == 126 else 'not found'}")
            self.status = failure.status
            return
        if last:
            self.replace(found.program(args), args)
        before, self.process.env = self.process.env, self.environment()
        try:
            child = self.process.fork(found.program(args), args)
        except OSError as error:
            self.complain(f"can't fork: {error.strerror}")
            raise Exited(2) from None
        finally:
            self.process.env = before
        self.status = self.wait(child)

    def replace(self, program: Callable[[FakeProcess], int], args: list[str]) -> None:
        """exec(2): run a program in this process, in the shell's place; does not come back."""
        process = self.process
        process.args, process.env = args, self.environment()
        process.signals = process.signals.inherited()
        raise Exited(program(process))

    # --- processes and signals

    def fork(self, node: Node, streams: dict[int, Stream] | None = None) -> FakeProcess:
        """Run a command in a child, a copy of this shell."""

        def program(child: FakeProcess) -> int:
            return self._copy(child).main(node, last=True)

        try:
            return self.process.fork(program, self.process.args, streams)
        except OSError as error:
            self.complain(f"can't fork: {error.strerror}")
            raise Exited(2) from None

    def _copy(self, child: FakeProcess) -> Shell:
        twin = Shell(child, self.name, list(self._parameters), self.programs)
        twin.variables, twin.exported = dict(self.variables), set(self.exported)
        twin.functions, twin.options = dict(self.functions), set(self.options)
        twin.pid, twin.status, twin.last_background = self.pid, self.status, self.last_background
        twin.loops = self.loops
        child.signals.default(signal.SIGINT)
        return twin

    def wait(self, child: FakeProcess) -> int:
        """Wait for a child in the foreground."""
        terminal = self._terminal()
        if terminal is None:
            return self._wait(child)
        before = terminal.foreground
        terminal.foreground = [child] if self.interactive else [*before, child]
        try:
            return self._wait(child)
        finally:
            terminal.foreground = before

    def _wait(self, child: FakeProcess) -> int:
        while True:
            # Looked at first: it may have come while the child was made, and no wait ends by what was there before it.
            if signal.SIGINT in self.process.caught and "INT" not in self.traps:
                if not self.interactive:
                    raise Exited(128 + signal.SIGINT)
                # The key was hit just before the command was in the foreground.
                self.process.caught.remove(signal.SIGINT)
                child.signal(signal.SIGINT)
            if self.process.wait_until(child.ended.is_set, child):
                return self.process.wait_for(child)

    def _terminal(self) -> Terminal | None:
        return next((s.terminal for s in self.process.streams.values() if s.terminal is not None), None)

    def run_traps(self) -> None:
        """Run the commands of signals that came meanwhile."""
        self.process.checkpoint()
        while self.process.caught:
            number = self.process.caught.popleft()
            command = self.traps.get(signal.Signals(number).name.removeprefix("SIG"))
            if command:
                status = self.status
                self.run_text(command)
                self.status = status
            elif number == signal.SIGINT and command is None:
                raise Aborted if self.interactive else Exited(128 + number)

    def complain(self, message: str) -> None:
        """Print a message to the standard error."""
        self.process.write(2, f"{self.name}: {message}\n".encode(errors="surrogateescape"))

    # --- redirections

    @contextmanager
    def _redirected(self, redirects: tuple[Redirect, ...]) -> Iterator[bool]:
        """The streams of a command; False if one cannot be opened, which was said."""
        if not redirects:
            yield True
            return
        before = {number: stream.dup() for number, stream in self.process.streams.items()}
        try:
            yield self.redirect(redirects)
        finally:
            for stream in self.process.streams.values():
                stream.close()
            self.process.streams = before

    def redirect(self, redirects: tuple[Redirect, ...]) -> bool:
        """Change streams for good; False if one cannot be opened, which was said."""
        for redirect in redirects:
            name = self._expander.text(redirect.word)
            try:
                stream = self._open(redirect.op, name)
            except OSError as error:
                self.complain(_why(redirect.op, name, error))
                self.status = 1
                return False
            old = self.process.streams.pop(redirect.number, None)
            if old is not None:
                old.close()
            if stream is not None:
                self.process.streams[redirect.number] = stream
        return True

    def _open(self, op: str, name: str) -> Stream | None:
        if op in {">&", "<&"}:
            if name == "-":
                return None
            if name.isdecimal():
                return self.process.stream(int(name)).dup()
        mode = {"<": "r", ">>": "a", "<>": "+"}.get(op, "w")
        return open_file(self.process, name, mode)


def _why(op: str, name: str, error: OSError) -> str:
    if op == "<":
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        return f"can't open {name}: {reason}"
    if op in {">&", "<&"} and name.isdecimal():
        return f"{name}: Bad file descriptor"
    reason = "nonexistent directory" if isinstance(error, FileNotFoundError) else error.strerror
    return f"can't create {name}: {reason}"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
