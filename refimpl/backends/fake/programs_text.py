"""Built-in programs that print and filter text."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from refimpl.backends.fake.processes import FakeProcess
from refimpl.backends.fake.processes_files import absolute, open_file, read_all, stat
from refimpl.backends.fake.programs_lookup import Main
from refimpl.backends.fake.programs_say import options_of, say, usage, warn
from refimpl.contract.mounts import FileType

_CHUNK = 1 << 16
_ESCAPES = {"a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_ESCAPE = re.compile(r"\\(0[0-7]{0,3}|[1-7][0-7]{0,2}|x[0-9A-Fa-f]{1,2}|.)", re.DOTALL)
_FORMAT = re.compile(r"%(%|[-+ #0]*\d*(?:\.\d+)?[diouxXcsb])")


def unescape(text: str) -> str:
    """Backslash escapes of ``echo -e`` and ``printf``."""

    def letter(match: re.Match[str]) -> str:
        code = match[1]
        if code[0].isdigit():
            return chr(int(code, 8) & 0xFF)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, match[0])

    return _ESCAPE.sub(letter, text)


def _echo(process: FakeProcess, args: list[str]) -> int:
    words, newline, escapes = args[1:], True, False
    while words and re.fullmatch(r"-[neE]+", words[0]):
        newline = newline and "n" not in words[0]
        escapes = "e" in words[0] or (escapes and "E" not in words[0])
        words.pop(0)
    text = " ".join(words)
    return say(process, (unescape(text) if escapes else text) + ("\n" if newline else ""))


def _printf(process: FakeProcess, args: list[str]) -> int:
    if len(args) < 2:
        return usage(process, args[0], "FORMAT [ARG]...")
    values, form, out = args[2:], args[1], ""
    while True:
        before = len(values)

        def fill(match: re.Match[str]) -> str:
            if match[1] == "%":
                return "%"
            value = values.pop(0) if values else ""
            kind = match[1][-1]
            if kind in "diouxX":
                return f"%{match[1].replace('i', 'd').replace('u', 'd')}" % _integer(value)
            if kind == "c":
                return value[:1]
            return f"%{match[1][:-1]}s" % (unescape(value) if kind == "b" else value)

        out += _FORMAT.sub(fill, unescape(form))
        if not values or len(values) == before:
            return say(process, out)


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _copy(process: FakeProcess, args: list[str], name: str) -> int:
    """Copy a file to the standard output."""
    try:
        stream = process.stream(0).dup() if name == "-" else open_file(process, name)
    except OSError as error:
        return warn(process, args[0], f"can't open '{name}': {error.strerror}")
    try:
        while data := stream.read(process, _CHUNK):
            process.write(1, data)
    finally:
        stream.close()
    return 0


def _cat(process: FakeProcess, args: list[str]) -> int:
    _, words = options_of(args)
    return max([_copy(process, args, name) for name in words or ["-"]])


def _tee(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    streams = [open_file(process, name, "a" if "a" in letters else "w") for name in words]
    try:
        while data := process.read(0):
            process.write(1, data)
            for stream in streams:
                stream.write(process, data)
    finally:
        for stream in streams:
            stream.close()
    return 0


def _lines(process: FakeProcess, name: str) -> Iterator[bytes]:
    """The lines of a file or the standard input as they come, with their ends."""
    stream = process.stream(0).dup() if name == "-" else open_file(process, name)
    rest = b""
    try:
        while data := stream.read(process, _CHUNK):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest
    finally:
        stream.close()


def _each_line(process: FakeProcess, args: list[str], names: list[str], use: Callable[[Iterator[bytes]], int]) -> int:
    status = 0
    for name in names or ["-"]:
        try:
            status = max(status, use(_lines(process, name)))
        except OSError as error:
            status = warn(process, args[0], f"{name}: {error.strerror}")
    return status


def _count(args: list[str]) -> tuple[int, str, list[str]]:
    """The number of ``-n N``, ``-c N`` or ``-N``, which of the two, and the other words."""
    number, unit, words, rest = 10, "n", [], args[1:]
    while rest:
        word = rest.pop(0)
        if word in {"-n", "-c"} and rest:
            number, unit = _size(rest.pop(0)), word[1]
        elif re.fullmatch(r"-[nc]?\d+[kKmM]?", word):
            number, unit = _size(word.lstrip("-nc")), "c" if word[1] == "c" else "n"
        else:
            words.append(word)
    return number, unit, words


def _size(text: str) -> int:
    factor = {"k": 1024, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower(), 1)
    digits = text.rstrip("kKmMgGbB")
    return int(digits) * factor if digits.isdecimal() else 0


def _head(process: FakeProcess, args: list[str]) -> int:
    number, unit, words = _count(args)
    if unit == "c":
        for name in words or ["-"]:
            stream = process.stream(0).dup() if name == "-" else open_file(process, name)
            left = number
            while left > 0 and (data := stream.read(process, min(left, _CHUNK))):
                process.write(1, data)
                left -= len(data)
            stream.close()
        return 0

    def use(lines: Iterator[bytes]) -> int:
        for _, line in zip(range(number), lines, strict=False):
            process.write(1, line)
        return 0

    return _each_line(process, args, words, use)


def _tail(process: FakeProcess, args: list[str]) -> int:
    number, unit, words = _count([word for word in args if word != "-f"])

    def use(lines: Iterator[bytes]) -> int:
        kept = list(lines)
        data = b"".join(kept)[-number:] if unit == "c" else b"".join(kept[-number:] if number else [])
        process.write(1, data)
        return 0

    status = _each_line(process, args, words, use)
    if "-f" in args:
        # Nobody appends to what it reads but other processes here; it waits as the real one does.
        process.wait_until(lambda: False)
    return status


def _wc(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)

    def use(lines: Iterator[bytes]) -> int:
        kept = list(lines)
        data = b"".join(kept)
        numbers = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
        shown = [numbers[letter] for letter in "lwc" if letter in letters or not letters & set("lwc")]
        text = str(shown[0]) if len(shown) == 1 else "".join(f"{number:10d}" for number in shown)
        return say(process, f"{text}{' ' + words[0] if words else ''}\n")

    return _each_line(process, args, words, use)


def _grep(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    if not words:
        return usage(process, args[0], "[-ivqcFE] PATTERN [FILE]...")
    text = re.escape(words[0]) if "F" in letters else words[0]
    try:
        pattern = re.compile(text.encode(), re.IGNORECASE if "i" in letters else 0)
    except re.error:
        return warn(process, args[0], f"bad regex '{words[0]}'", 2)
    found = 0

    def use(lines: Iterator[bytes]) -> int:
        nonlocal found
        for line in lines:
            if bool(pattern.search(line.rstrip(b"\n"))) is not ("v" in letters):
                found += 1
                if not letters & {"q", "c"}:
                    process.write(1, line)
        return 0

    status = _each_line(process, args, words[1:], use)
    if "c" in letters:
        say(process, f"{found}\n")
    return status or int(not found)


def _sort(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    lines: list[bytes] = []

    def use(read: Iterator[bytes]) -> int:
        lines.extend(line.rstrip(b"\n") for line in read)
        return 0

    status = _each_line(process, args, words, use)
    number = cast("Callable[[bytes], object]", lambda line: _integer(line.split()[0].decode()) if line.split() else 0)
    lines.sort(key=number if "n" in letters else None, reverse="r" in letters)  # type: ignore[arg-type]  # one of two
    kept = list(dict.fromkeys(lines)) if "u" in letters else lines
    process.write(1, b"".join(line + b"\n" for line in kept))
    return status


def _tr(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    sets = [_letters(unescape(word)) for word in words]
    if not sets or (len(sets) < 2 and "d" not in letters):
        return usage(process, args[0], "[-d] SET1 [SET2]")
    if "d" in letters:
        table, gone = bytes(range(256)), sets[0].encode("latin-1")
    else:
        to = sets[1].ljust(len(sets[0]), sets[1][-1:])
        table, gone = bytes.maketrans(sets[0].encode("latin-1"), to[: len(sets[0])].encode("latin-1")), b""
    while data := process.read(0):
        process.write(1, data.translate(table, gone))
    return 0


def _letters(text: str) -> str:
    return re.sub(r"(.)-(.)", lambda m: "".join(map(chr, range(ord(m[1]), ord(m[2]) + 1))), text)


def _seq(process: FakeProcess, args: list[str]) -> int:
    numbers = [_integer(word) for word in args[1:]]
    if not 1 <= len(numbers) <= 3:
        return usage(process, args[0], "[FIRST [INC]] LAST")
    first, step = (numbers[0] if len(numbers) > 1 else 1), (numbers[1] if len(numbers) == 3 else 1)
    last = numbers[-1] + (1 if step > 0 else -1)
    return say(process, "".join(f"{n}\n" for n in range(first, last, step or 1)))


def _yes(process: FakeProcess, args: list[str]) -> int:
    block = (" ".join(args[1:]) or "y").encode() + b"\n"
    block *= max(1, 4096 // len(block))
    while True:
        process.write(1, block)


def _sum(kind: str) -> Main:
    def main(process: FakeProcess, args: list[str]) -> int:
        status = 0
        for name in args[1:] or ["-"]:
            try:
                digest = hashlib.new(kind, read_all(process, name), usedforsecurity=False).hexdigest()
            except OSError as error:
                status = warn(process, args[0], f"can't open '{name}': {error.strerror}")
                continue
            say(process, f"{digest}  {name}\n")
        return status

    return main


def _test(process: FakeProcess, args: list[str]) -> int:
    words = args[1:]
    if args[0].endswith("["):
        if not words or words[-1] != "]":
            return warn(process, args[0], "missing ]", 2)
        words = words[:-1]
    try:
        return int(not _true(process, words))
    except ValueError as error:
        return warn(process, "sh", str(error), 2)


_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}


def _true(process: FakeProcess, words: list[str]) -> bool:
    for op, combine in (("-o", any), ("-a", all)):
        if op in words[1:-1] and len(words) > 3:
            at = words.index(op, 1)
            return combine([_true(process, words[:at]), _true(process, words[at + 1 :])])
    if words[:1] == ["!"]:
        return not _true(process, words[1:])
    if len(words) == 3:
        left, op, right = words
        if op in {"=", "=="}:
            return left == right
        if op == "!=":
            return left != right
        if op in _COMPARE:
            return _COMPARE[op](_whole(left), _whole(right))
    if len(words) == 2 and words[0] in {"-n", "-z"}:
        return bool(words[1]) is (words[0] == "-n")
    if len(words) == 2:
        return _file_test(process, *words)
    if len(words) > 1:
        raise ValueError(f"{words[1]}: unknown operand")
    return bool(words and words[0])


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text}: bad number") from None


def _file_test(process: FakeProcess, op: str, name: str) -> bool:
    if op == "-t":
        stream = process.streams.get(_whole(name))
        return stream is not None and stream.terminal is not None
    try:
        found = process.image.root.lstat(absolute(process, name)) if op in {"-h", "-L"} else stat(process, name)
    except OSError:
        return False
    kinds = {
        "-f": FileType.FILE, "-d": FileType.DIRECTORY, "-h": FileType.SYMLINK, "-L": FileType.SYMLINK,
        "-p": FileType.FIFO, "-c": FileType.CHAR, "-b": FileType.BLOCK, "-S": FileType.SOCKET,
    }  # fmt: skip
    if op in kinds:
        return found.type is kinds[op]
    if op == "-s":
        return found.size > 0
    if op == "-x":
        return found.mode & 0o111 != 0
    if op in {"-e", "-r", "-w"}:
        return True
    raise ValueError(f"{op}: unknown operand")


def _true_program(_process: FakeProcess, _args: list[str]) -> int:
    return 0


def _false_program(_process: FakeProcess, _args: list[str]) -> int:
    return 1


def _basename(process: FakeProcess, args: list[str]) -> int:
    if len(args) < 2:
        return usage(process, args[0], "FILE [SUFFIX]")
    name = args[1].rstrip("/").rpartition("/")[2] or "/"
    return say(process, (name.removesuffix(args[2]) if len(args) > 2 else name) + "\n")


def _dirname(process: FakeProcess, args: list[str]) -> int:
    if len(args) < 2:
        return usage(process, args[0], "FILENAME")
    above, slash, _ = args[1].rstrip("/").rpartition("/")
    return say(process, f"{above or slash or '.'}\n")


def _expr(process: FakeProcess, args: list[str]) -> int:
    words = args[1:]
    if len(words) == 3 and words[1] in {"+", "-", "*", "/", "%"}:
        left, right = _whole(words[0]), _whole(words[2])
        results = {"+": left + right, "-": left - right, "*": left * right}
        value = results.get(words[1], int(left / right) if words[1] == "/" and right else left % (right or 1))
        return say(process, f"{value}\n", int(value == 0))
    if len(words) == 3 and words[1] in {"=", "!="}:
        same = fnmatch.fnmatchcase(words[0], words[2]) is (words[1] == "=")
        return say(process, f"{int(same)}\n", int(not same))
    return say(process, " ".join(words) + "\n", int(not words))


TEXT_PROGRAMS: Mapping[str, Main] = {
    "[": _test,
    "basename": _basename,
    "cat": _cat,
    "dirname": _dirname,
    "echo": _echo,
    "expr": _expr,
    "false": _false_program,
    "grep": _grep,
    "head": _head,
    "md5sum": _sum("md5"),
    "printf": _printf,
    "seq": _seq,
    "sha256sum": _sum("sha256"),
    "sort": _sort,
    "tail": _tail,
    "tee": _tee,
    "test": _test,
    "tr": _tr,
    "true": _true_program,
    "wc": _wc,
    "yes": _yes,
}
"""By name."""
