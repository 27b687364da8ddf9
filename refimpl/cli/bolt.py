"""``refimpl bolt``: look into a database file, of refimpl, of containerd, or of anybody who uses bbolt's format.

The file is opened for reading with a shared lock, so no daemon may have it open, and nothing in it changes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from refimpl.backends.real.bolt import BoltStore
from refimpl.backends.real.bolt.check import inspect
from refimpl.backends.real.bolt.file import File
from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import Json
from refimpl.contract.encoding import DecodeError, decode_time, decode_varint
from refimpl.contract.errors import ContainerdError, Unavailable
from refimpl.contract.kv import Bucket
from refimpl.contract.times import format_rfc3339

T = TypeVar("T")

app = typer.Typer(help="Look into a database file.", no_args_is_help=True, add_completion=False)

_LOCK_SECONDS = 1.0

_TIMES = {b"createdat", b"updatedat", b"expireat"}
_NUMBERS = {b"size", b"version", b"inodes"}
"""What containerd keeps under these keys is not text."""

Database = Annotated[Path, typer.Argument(metavar="FILE", help="A database such as meta.db.", show_default=False)]


@app.callback()
def group() -> None:
    """Look into a database file."""


@app.command()
def check(file: Database, as_json: Json = False) -> None:
    """Say whether FILE is sound: every page in use once, in order, or free.

    A changed byte inside a value, or inside a key that stays in order, cannot be found: the format has no sum for it.

    Exit status: 0 it is, 1 it is not or cannot be opened, 2 usage.
    """
    with _readable(file):
        found = inspect(file, _LOCK_SECONDS)
    if as_json:
        problems = [{"page": problem.page, "message": problem.reason} for problem in found.problems]
        print(json.dumps({"sound": not problems, "problems": problems}, indent=2))
    elif found.problems:
        print("\n".join(map(str, found.problems)))
    else:
        statistics = found.statistics
        print(f"sound: {statistics.pages} pages, {statistics.buckets} buckets, {statistics.keys} keys")
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def stats(file: Database, as_json: Json = False) -> None:
    """Count the pages, buckets and keys of FILE. Sizes are in bytes.

    Of a damaged file this is what could be read, with a warning and exit status 1.
    """
    with _readable(file):
        found = inspect(file, _LOCK_SECONDS)
    values = dataclasses.asdict(found.statistics)
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        print("\n".join(f"{name.replace('_', ' '):<16}{value:>12}" for name, value in values.items()))
    if found.problems:
        raise fail(f"{file} is damaged, so these numbers may lack something: see refimpl bolt check")


@app.command()
def dump(file: Database, as_json: Json = False) -> None:
    """Print all buckets and keys of FILE. containerd's times and numbers are decoded; what is no text is hex."""
    with _readable(file), _opened(file) as store, store.view() as root:
        if as_json:
            print(json.dumps([_bucket_as_json(path, bucket) for path, bucket in _buckets(root)], indent=2))
            return
        for line in _lines(root):
            print(line)


@contextmanager
def _opened(file: Path) -> Iterator[BoltStore]:
    store = BoltStore(File(file, read_only=True), timeout=_LOCK_SECONDS)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Errors in one line with the file's name; one that is locked names who has it."""
    with one_line_errors():
        try:
            yield
        except Unavailable as error:
            probe = File(file, read_only=True)
            holders = [f"process {pid} ({_command(pid)})" for pid in probe.holders()]
            probe.close()
            who = " and ".join(holders) or "another process"
            raise fail(f"{file} is in use by {who}: stop it first") from error
        except ContainerdError as error:
            raise fail(f"{file}: {error}") from error


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"


def _buckets(root: Bucket) -> Iterator[tuple[list[bytes], Bucket]]:
    """All buckets with the names that lead to them, the root first, each before what is in it."""
    todo: list[tuple[list[bytes], Bucket]] = [([], root)]
    while todo:
        path, bucket = todo.pop()
        yield path, bucket
        below = [([*path, key], bucket.bucket(key)) for key, value in bucket.items() if value is None]
        todo += [(names, child) for names, child in reversed(below) if child is not None]


def _bucket_as_json(path: list[bytes], bucket: Bucket) -> dict[str, Any]:
    # Bytes that are no UTF-8 become lone surrogates, which JSON can say and Python turns back.
    values = {_text(key): _value_as_json(key, value) for key, value in bucket.items() if value is not None}
    return {"bucket": [_text(name) for name in path], "sequence": bucket.sequence, "values": values}


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _value_as_json(key: bytes, value: bytes) -> dict[str, Any]:
    shown: dict[str, Any] = {"hex": value.hex()}
    for what, words in (("time", _time(key, value)), ("number", _number(key, value)), ("text", _printable(value))):
        if words is not None:
            shown[what] = words
            break
    return shown


def _lines(root: Bucket) -> Iterator[str]:
    """The tree, two blanks for each level; buckets end in a slash."""
    way: list[tuple[Bucket, Iterator[tuple[bytes, bytes | None]]]] = [(root, root.items())]
    while way:
        bucket, items = way[-1]
        found = next(items, None)
        if found is None:
            way.pop()
            continue
        key, value = found
        indent, name = "  " * (len(way) - 1), _printable(key)
        shown = name if name is not None else f"0x{key.hex()}"
        if value is not None:
            yield f"{indent}{shown} = {_value_as_text(key, value)}"
            continue
        child = bucket.bucket(key)
        assert child is not None, "the iteration said so"
        yield f"{indent}{shown}/" + (f"  (sequence {child.sequence})" if child.sequence else "")
        way.append((child, child.items()))


def _value_as_text(key: bytes, value: bytes) -> str:
    time, number, text = _time(key, value), _number(key, value), _printable(value)
    if time is not None:
        return time
    if number is not None:
        return str(number)
    return json.dumps(text, ensure_ascii=False) if text is not None else f"0x{value.hex()}"


def _time(key: bytes, value: bytes) -> str | None:
    return _decoded(lambda: format_rfc3339(decode_time(value))) if key in _TIMES else None


def _number(key: bytes, value: bytes) -> int | None:
    return _decoded(lambda: decode_varint(value)) if key in _NUMBERS else None


def _decoded(decode: Callable[[], T]) -> T | None:
    """None for what is not what its key says: other programs have keys of these names too."""
    try:
        return decode()
    except (DecodeError, ValueError, OverflowError):
        return None


def _printable(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
