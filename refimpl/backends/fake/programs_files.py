"""Built-in programs that look at the process's file system and change it."""

from __future__ import annotations

import stat as modes
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from refimpl.backends.fake.processes import FakeProcess
from refimpl.backends.fake.processes_files import (
    READ,
    absolute,
    check_access,
    check_directory,
    open_file,
    own,
    read_all,
    real_path,
    stat,
)
from refimpl.backends.fake.programs_lookup import Main
from refimpl.backends.fake.programs_say import options_of, say, usage, warn
from refimpl.contract.mounts import FileStat, FileType
from refimpl.contract.times import SECOND

_TYPES = {
    FileType.FILE: modes.S_IFREG, FileType.DIRECTORY: modes.S_IFDIR, FileType.SYMLINK: modes.S_IFLNK,
    FileType.CHAR: modes.S_IFCHR, FileType.BLOCK: modes.S_IFBLK, FileType.FIFO: modes.S_IFIFO,
    FileType.SOCKET: modes.S_IFSOCK,
}  # fmt: skip
_HALF_YEAR = 182 * 86400


def names_in(process: FakeProcess, database: str) -> dict[int, str]:
    """Names by number in ``/etc/passwd`` or ``/etc/group``; none where the file is missing."""
    try:
        text = read_all(process, f"/etc/{database}").decode(errors="replace")
    except OSError:
        return {}
    fields = (line.split(":") for line in text.splitlines())
    return {int(f[2]): f[0] for f in reversed(list(fields)) if len(f) > 2 and f[2].isdecimal()}


def _ls(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    status, out = 0, []
    plain: list[tuple[str, FileStat]] = []
    directories: list[str] = []
    root = process.image.root
    for word in words or ["."]:
        try:
            found = root.lstat(absolute(process, word))
            if found.type is FileType.SYMLINK and "l" not in letters:
                found = stat(process, word)
        except OSError as error:
            status = warn(process, args[0], f"{word}: {error.strerror}")
            continue
        if found.type is FileType.DIRECTORY and "d" not in letters:
            directories.append(word)
        else:
            plain.append((word, found))
    out.append(_listing(process, plain, letters))
    for number, word in enumerate(directories):
        if len(words) > 1:
            out.append(f"{chr(10) if plain or number else ''}{word}:\n")
        try:
            out.append(_directory(process, word, letters))
        except OSError as error:
            status = warn(process, args[0], f"can't open '{word}': {error.strerror}")
    return say(process, "".join(out), status)


def _directory(process: FakeProcess, word: str, letters: set[str]) -> str:
    root, at = process.image.root, absolute(process, word)
    check_access(process, stat(process, word), READ, word)
    names = root.listdir(at)
    if not letters & {"a", "A"}:
        names = [name for name in names if not name.startswith(".")]
    if "a" in letters:
        names = [".", "..", *names]
    entries = [(name, root.lstat(f"{at.rstrip('/')}/{name}")) for name in names]
    total = f"total {sum(found.blocks for _, found in entries) // 2}\n" if "l" in letters else ""
    return total + _listing(process, entries, letters, at)


def _listing(process: FakeProcess, entries: list[tuple[str, FileStat]], letters: set[str], above: str = "") -> str:
    if "l" not in letters:
        return "".join(f"{name}\n" for name, _ in entries)
    users, groups = ({}, {}) if "n" in letters else (names_in(process, "passwd"), names_in(process, "group"))
    lines = []
    for name, found in entries:
        owner, group = users.get(found.uid, str(found.uid)), groups.get(found.gid, str(found.gid))
        device = found.type in {FileType.CHAR, FileType.BLOCK}
        size = "{:4d},{:4d}".format(*found.device) if device else f"{found.size:9d}"
        mode = modes.filemode(_TYPES[found.type] | found.mode)
        line = f"{mode} {found.links:4d} {owner:8s} {group:8s} {size} {_date(process, found.mtime)} {name}"
        if found.type is FileType.SYMLINK:
            path = f"{above.rstrip('/')}/{name}" if above else absolute(process, name)
            line += f" -> {process.image.root.readlink(path)}"
        lines.append(line + "\n")
    return "".join(lines)


def _date(process: FakeProcess, mtime: int) -> str:
    moment = datetime.fromtimestamp(mtime // SECOND, UTC)
    recent = 0 <= process.table.clock.now() // SECOND - mtime // SECOND < _HALF_YEAR
    return moment.strftime(f"%b %e {'%H:%M' if recent else ' %Y'}")


def _each(change: Callable[[FakeProcess, str, set[str]], None], verb: str) -> Main:
    """A program that does one thing with each of its words."""

    def main(process: FakeProcess, args: list[str]) -> int:
        letters, words = options_of(args)
        if not words:
            return usage(process, args[0], "FILE...")
        status = 0
        for word in words:
            try:
                change(process, word, letters)
            except OSError as error:
                quoted = f"{verb} '{word}'" if verb else word
                status = warn(process, args[0], f"{quoted}: {error.strerror}")
        return status

    return main


def _make_directory(process: FakeProcess, word: str, letters: set[str]) -> None:
    root, at = process.image.root, absolute(process, word)
    if "p" in letters:
        if root.exists(at) and stat(process, at).type is FileType.DIRECTORY:
            return
        above = at.rstrip("/").rpartition("/")[0]
        if above:
            _make_directory(process, above, letters)
    check_directory(process, at)
    root.mkdir(at, 0o777 & ~process.umask)
    own(process, at)


def _remove_directory(process: FakeProcess, word: str, _letters: set[str]) -> None:
    check_directory(process, word)
    process.image.root.rmdir(absolute(process, word))


def _remove(process: FakeProcess, word: str, letters: set[str]) -> None:
    root, at = process.image.root, absolute(process, word)
    if "f" in letters and not root.exists(at):
        return
    found = root.lstat(at)
    check_directory(process, at)
    if found.type is FileType.DIRECTORY:
        if not letters & {"r", "R"}:
            raise IsADirectoryError(21, "Is a directory")
        root.rmtree(at)
    else:
        root.unlink(at)


def _touch(process: FakeProcess, word: str, letters: set[str]) -> None:
    root, at = process.image.root, absolute(process, word)
    if root.exists(at):
        now = process.table.clock.now()
        root.utime(real_path(process, at), now, now)
    elif "c" not in letters:
        open_file(process, at, "w").close()


def _link(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    if len(words) != 2:
        return usage(process, args[0], "[-sf] TARGET LINK")
    root, at = process.image.root, _target(process, words[1], words[0])
    try:
        check_directory(process, at)
        if "f" in letters and root.exists(at):
            root.unlink(at)
        if "s" in letters:
            root.symlink(words[0], at)
        else:
            root.link(absolute(process, words[0]), at)
    except OSError as error:
        return warn(process, args[0], f"{words[1]}: {error.strerror}")
    return 0


def _target(process: FakeProcess, word: str, source: str) -> str:
    """Where something goes: into a directory under its own name, else to that name."""
    at = absolute(process, word)
    try:
        if stat(process, at).type is FileType.DIRECTORY:
            return f"{at.rstrip('/')}/{source.rstrip('/').rpartition('/')[2]}"
    except OSError:
        return at
    return at


def _copy(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    if len(words) < 2:
        return usage(process, args[0], "SOURCE DEST")
    status = 0
    for word in words[:-1]:
        try:
            _copy_one(process, absolute(process, word), _target(process, words[-1], word), letters)
        except OSError as error:
            status = warn(process, args[0], f"can't stat '{word}': {error.strerror}")
    return status


def _copy_one(process: FakeProcess, source: str, target: str, letters: set[str]) -> None:
    root, found = process.image.root, stat(process, source)
    if found.type is FileType.DIRECTORY:
        if not letters & {"r", "R", "a"}:
            raise IsADirectoryError(21, "omitting directory")
        _make_directory(process, target, {"p"})
        for name in root.listdir(source):
            _copy_one(process, f"{source}/{name}", f"{target}/{name}", letters)
        return
    stream = open_file(process, target, "w")
    try:
        stream.write(process, read_all(process, source))
    finally:
        stream.close()
    root.chmod(target, found.mode & 0o777)


def _move(process: FakeProcess, args: list[str]) -> int:
    _, words = options_of(args)
    if len(words) != 2:
        return usage(process, args[0], "SOURCE DEST")
    target = _target(process, words[1], words[0])
    try:
        check_directory(process, words[0])
        check_directory(process, target)
        process.image.root.rename(absolute(process, words[0]), target)
    except OSError as error:
        return warn(process, args[0], f"can't rename '{words[0]}': {error.strerror}")
    return 0


def _chmod(process: FakeProcess, args: list[str]) -> int:
    words = args[1:]
    if len(words) < 2:
        return usage(process, args[0], "MODE FILE...")
    status = 0
    for word in words[1:]:
        try:
            old = stat(process, word)
            process.image.root.chmod(absolute(process, word), _mode(words[0], old.mode))
        except OSError as error:
            status = warn(process, args[0], f"{word}: {error.strerror}")
        except ValueError:
            return warn(process, args[0], f"invalid mode '{words[0]}'")
    return status


def _mode(text: str, old: int) -> int:
    if set(text) <= set("01234567"):
        return int(text, 8)
    who, op, what = text[:-2] or "a", text[-2], text[-1]
    bits = {"r": 4, "w": 2, "x": 1}.get(what)
    if bits is None or op not in "+-":
        raise ValueError(text)
    mask = sum(bits << shift for letter, shift in (("u", 6), ("g", 3), ("o", 0)) if letter in who or "a" in who)
    return old | mask if op == "+" else old & ~mask


def _chown(process: FakeProcess, args: list[str]) -> int:
    words = args[1:]
    if len(words) < 2:
        return usage(process, args[0], "OWNER[:GROUP] FILE...")
    owner, _, group = words[0].partition(":")
    users, groups = ({n: i for i, n in names_in(process, d).items()} for d in ("passwd", "group"))
    for word in words[1:]:
        try:
            if process.image.uid != 0:
                raise PermissionError(1, "Operation not permitted")
            old = stat(process, word)
            uid = int(owner) if owner.isdecimal() else users.get(owner, old.uid)
            gid = int(group) if group.isdecimal() else groups.get(group, old.gid)
            process.image.root.lchown(real_path(process, word), uid, gid)
        except OSError as error:
            return warn(process, args[0], f"{word}: {error.strerror}")
    return 0


def _readlink(process: FakeProcess, args: list[str]) -> int:
    letters, words = options_of(args)
    for word in words:
        try:
            follow = "f" in letters or args[0].endswith("realpath")
            text = real_path(process, word) if follow else process.image.root.readlink(absolute(process, word))
        except OSError:
            return 1
        say(process, f"{text}\n")
    return 0


def _stat(process: FakeProcess, args: list[str]) -> int:
    words, form = args[1:], "%n %s %a"
    if words[:1] == ["-c"] and len(words) > 1:
        form, words = words[1], words[2:]
    status = 0
    for word in words:
        try:
            found = process.image.root.lstat(absolute(process, word))
        except OSError as error:
            status = warn(process, args[0], f"can't stat '{word}': {error.strerror}")
            continue
        values = {
            "%n": word, "%s": found.size, "%a": f"{found.mode:o}", "%u": found.uid, "%g": found.gid, "%h": found.links,
            "%i": found.inode, "%Y": found.mtime // SECOND,
        }  # fmt: skip
        text = form
        for key, value in values.items():
            text = text.replace(key, str(value))
        say(process, f"{text}\n")
    return status


def _truncate(process: FakeProcess, args: list[str]) -> int:
    if len(args) != 4 or args[1] != "-s" or not args[2].isdecimal():
        return usage(process, args[0], "-s SIZE FILE")
    _touch(process, args[3], set())
    process.image.root.truncate(absolute(process, args[3]), int(args[2]))
    return 0


def _find(process: FakeProcess, args: list[str]) -> int:
    top = args[1] if len(args) > 1 else "."
    try:
        at = real_path(process, top)
        found = [path for path, _ in process.image.root.walk(at)]
    except OSError as error:
        return warn(process, args[0], f"{top}: {error.strerror}")
    return say(process, "".join(f"{top.rstrip('/') or ''}{path[len(at.rstrip('/')) :]}\n" for path in found))


FILE_PROGRAMS: Mapping[str, Main] = {
    "chmod": _chmod,
    "chown": _chown,
    "cp": _copy,
    "find": _find,
    "ln": _link,
    "ls": _ls,
    "mkdir": _each(_make_directory, "can't create directory"),
    "mv": _move,
    "readlink": _readlink,
    "realpath": _readlink,
    "rm": _each(_remove, "can't remove"),
    "rmdir": _each(_remove_directory, ""),
    "stat": _stat,
    "touch": _each(_touch, ""),
    "truncate": _truncate,
}
"""By name."""
