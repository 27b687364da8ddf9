"""Built-in programs about processes, time and the machine."""

from __future__ import annotations

import platform
import re
import signal
from collections.abc import Mapping
from datetime import UTC, datetime

from refimpl.backends.fake.processes import FakeProcess
from refimpl.backends.fake.processes_files import open_file
from refimpl.backends.fake.processes_signals import number_of
from refimpl.backends.fake.programs_files import names_in
from refimpl.backends.fake.programs_lookup import LookupFailure, Main, find
from refimpl.backends.fake.programs_say import options_of, say, usage, warn
from refimpl.backends.fake.terminal import Terminal
from refimpl.contract.times import SECOND

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _seconds(text: str) -> float | None:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([smhd]?)", text)
    return None if match is None else float(match[1]) * _UNITS[match[2]]


def _sleep(process: FakeProcess, args: list[str]) -> int:
    if len(args) < 2:
        return usage(process, args[0], "[N]...")
    total = 0.0
    for word in args[1:]:
        seconds = float("inf") if word in {"inf", "infinity"} else _seconds(word)
        if seconds is None:
            return warn(process, args[0], f"invalid number '{word}'")
        total += seconds
    if total == float("inf"):
        process.wait_until(lambda: False)
    process.sleep(total)
    return 0


def _usleep(process: FakeProcess, args: list[str]) -> int:
    process.sleep(int(args[1]) / 1e6 if len(args) > 1 and args[1].isdecimal() else 0)
    return 0


def _env(process: FakeProcess, args: list[str]) -> int:
    words, env = args[1:], dict(process.env)
    if words[:1] in (["-i"], ["-"]):
        env = {}
        words.pop(0)
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if not words:
        return say(process, "".join(f"{name}={value}\n" for name, value in env.items()))
    process.env = env
    return _become(process, args[0], words)


def _become(process: FakeProcess, name: str, words: list[str]) -> int:
    """Run another program in this one's place."""
    # Imported here because the table of programs holds this one.
    from refimpl.backends.fake.programs import PROGRAMS  # noqa: PLC0415

    try:
        found = find(process, words[0], process.env.get("PATH", "/bin:/usr/bin"), PROGRAMS)
    except LookupFailure as failure:
        return warn(process, name, f"can't execute '{words[0]}': {_reason(failure)}", failure.status)
    process.args = words
    return found.program(words)(process)


def _reason(failure: LookupFailure) -> str:
    return "Permission denied" if failure.status == 126 else "No such file or directory"


def _printenv(process: FakeProcess, args: list[str]) -> int:
    if len(args) == 1:
        return _env(process, args)
    values = [process.env[name] for name in args[1:] if name in process.env]
    return say(process, "".join(f"{value}\n" for value in values), int(len(values) < len(args) - 1))


def _pwd(process: FakeProcess, _args: list[str]) -> int:
    return say(process, f"{process.cwd}\n")


def _id(process: FakeProcess, args: list[str]) -> int:
    letters, _ = options_of(args)
    users, groups = names_in(process, "passwd"), names_in(process, "group")
    uid, gid = process.image.uid, process.image.gid
    if letters & {"u", "g"}:
        number, names = (uid, users) if "u" in letters else (gid, groups)
        return say(process, f"{names.get(number, number) if 'n' in letters else number}\n")

    def shown(number: int, names: dict[int, str]) -> str:
        return f"{number}({names[number]})" if number in names else str(number)

    more = ",".join(shown(group, groups) for group in process.image.groups)
    text = f"uid={shown(uid, users)} gid={shown(gid, groups)}"
    return say(process, f"{text}{f' groups={more}' if more else ''}\n")


def _whoami(process: FakeProcess, args: list[str]) -> int:
    uid = process.image.uid
    name = names_in(process, "passwd").get(uid)
    return warn(process, args[0], f"unknown uid {uid}") if name is None else say(process, f"{name}\n")


def _hostname(process: FakeProcess, _args: list[str]) -> int:
    return say(process, f"{process.image.hostname}\n")


def _uname(process: FakeProcess, args: list[str]) -> int:
    letters, _ = options_of(args)
    host, machine = process.image.hostname, platform.machine()
    fields = {"s": "Linux", "n": host, "r": "6.1.0-fake", "v": "#1 SMP", "m": machine, "o": "GNU/Linux"}
    shown = fields if "a" in letters else {k: v for k, v in fields.items() if k in (letters or {"s"})}
    return say(process, " ".join(shown.values()) + "\n")


def _date(process: FakeProcess, args: list[str]) -> int:
    now = process.table.clock.now()
    moment = datetime.fromtimestamp(now // SECOND, UTC)
    form = next((word[1:] for word in args[1:] if word.startswith("+")), "%a %b %e %H:%M:%S UTC %Y")
    form = form.replace("%s", str(now // SECOND)).replace("%N", f"{now % SECOND:09d}")
    return say(process, f"{moment.strftime(form)}\n")


def _nproc(process: FakeProcess, _args: list[str]) -> int:
    return say(process, f"{process.table.cgroups.processors}\n")


def _neighbours(process: FakeProcess) -> list[FakeProcess]:
    """The processes that it can see."""
    return [other for other in process.table.living() if other.namespace is process.namespace]


def _ps(process: FakeProcess, _args: list[str]) -> int:
    users = names_in(process, "passwd")
    lines = ["PID   USER     COMMAND\n"]
    for other in _neighbours(process):
        user = users.get(other.image.uid, str(other.image.uid))
        lines.append(f"{other.inner_pid:5d} {user:8s} {' '.join(other.args)}\n")
    return say(process, "".join(lines))


def _kill(process: FakeProcess, args: list[str]) -> int:
    words, number = args[1:], int(signal.SIGTERM)
    if words[:1] == ["-l"]:
        return say(process, "".join(f"{s.value:2d}) {s.name.removeprefix('SIG')}\n" for s in signal.Signals))
    if words and words[0].startswith("-"):
        name = words.pop(0)[1:]
        if name == "s" and words:
            name = words.pop(0)
        found = number_of(name)
        if found is None:
            return warn(process, args[0], f"invalid signal '{name}'")
        number = found
    if not words:
        return warn(process, args[0], "you need to specify whom to kill")
    status = 0
    for word in words:
        everybody = word == "-1"
        targets = [p for p in _neighbours(process) if (everybody and p is not process) or str(p.inner_pid) == word]
        if not targets:
            status = warn(process, args[0], f"can't kill pid {word}: No such process")
        for target in targets:
            target.signal(number, inside=True)
    process.checkpoint()
    return status


def _terminal(process: FakeProcess) -> Terminal | None:
    stream = process.streams.get(0)
    return None if stream is None else stream.terminal


def _tty(process: FakeProcess, _args: list[str]) -> int:
    terminal = _terminal(process)
    return say(process, "not a tty\n", 1) if terminal is None else say(process, f"{terminal.name}\n")


def _stty(process: FakeProcess, args: list[str]) -> int:
    terminal = _terminal(process)
    if terminal is None:
        return warn(process, args[0], "standard input: Inappropriate ioctl for device")
    words = args[1:]
    while words:
        word = words.pop(0)
        if word == "size":
            say(process, f"{terminal.height} {terminal.width}\n")
        elif word in {"rows", "cols", "columns"} and words:
            size = int(words.pop(0))
            terminal.resize(*((terminal.width, size) if word == "rows" else (size, terminal.height)))
        elif word == "raw":
            terminal.echo = terminal.canonical = terminal.keys = False
        elif word in {"sane", "-raw"}:
            terminal.echo = terminal.canonical = terminal.keys = True
        elif word.lstrip("-") in {"echo", "icanon", "isig"}:
            name = {"echo": "echo", "icanon": "canonical", "isig": "keys"}[word.lstrip("-")]
            setattr(terminal, name, not word.startswith("-"))
        else:
            return warn(process, args[0], f"invalid argument '{word}'")
    return 0


def _dd(process: FakeProcess, args: list[str]) -> int:
    options = dict(word.partition("=")[::2] for word in args[1:])
    size, count = _bytes(options.get("bs", "512")), options.get("count")
    source = open_file(process, options["if"]) if "if" in options else process.stream(0).dup()
    target = open_file(process, options["of"], "w") if "of" in options else process.stream(1).dup()
    blocks = total = 0
    try:
        while count is None or blocks < int(count):
            data = source.read(process, size)
            if not data:
                break
            process.compute(10_000, system=True)
            target.write(process, data)
            blocks, total = blocks + 1, total + len(data)
    finally:
        source.close()
        target.close()
    process.write(2, f"{blocks}+0 records in\n{blocks}+0 records out\n{total} bytes copied\n".encode())
    return 0


def _bytes(text: str) -> int:
    digits = text.rstrip("kKmMgGiB")
    unit = text[len(digits) :][:1].lower()
    return int(digits) * _SIZES[unit] if digits.isdecimal() else 0


def _timeout(process: FakeProcess, args: list[str]) -> int:
    seconds = _seconds(args[1]) if len(args) > 2 else None
    if seconds is None:
        return usage(process, args[0], "SECS PROG ARGS")
    child = process.fork(lambda p: _become(p, args[0], args[2:]), args[2:])
    if not process.wait_until(child.ended.is_set, child, seconds=seconds):
        child.signal(signal.SIGTERM, inside=True)
    status = process.wait_for(child)
    return 143 if status == 128 + signal.SIGTERM else status


def _allocate(process: FakeProcess, args: list[str]) -> int:
    """``allocate BYTES [SECONDS]``: hold memory for so long, by default for ever."""
    if len(args) < 2 or not _bytes(args[1]):
        return usage(process, args[0], "BYTES [SECONDS]")
    process.allocate(_bytes(args[1]))
    seconds = _seconds(args[2]) if len(args) > 2 else None
    if seconds is None:
        process.wait_until(lambda: False)
    else:
        process.sleep(seconds)
    return 0


def _burn(process: FakeProcess, args: list[str]) -> int:
    """``burn SECONDS``: use so much processor time."""
    seconds = _seconds(args[1]) if len(args) > 1 else None
    if seconds is None:
        return usage(process, args[0], "SECONDS")
    process.burn(seconds)
    return 0


HOST_PROGRAMS: Mapping[str, Main] = {
    "allocate": _allocate,
    "burn": _burn,
    "date": _date,
    "dd": _dd,
    "env": _env,
    "hostname": _hostname,
    "id": _id,
    "kill": _kill,
    "nproc": _nproc,
    "printenv": _printenv,
    "ps": _ps,
    "pwd": _pwd,
    "sleep": _sleep,
    "stty": _stty,
    "timeout": _timeout,
    "tty": _tty,
    "uname": _uname,
    "usleep": _usleep,
    "whoami": _whoami,
}
"""By name."""
