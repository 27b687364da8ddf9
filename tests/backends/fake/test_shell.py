"""The fake shell: the language, and what a script does with signals. Outputs are those of busybox's ash."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from refimpl.backends.fake.processes import FakeProcess
from refimpl.backends.fake.shell_parser import parse
from refimpl.backends.fake.shell_syntax import SyntaxFailure
from tests.backends.fake.containers import Ran, make_host, sh, until

SCRIPTS = {
    "echo hi": "hi\n",
    "echo a; echo b & wait": "a\nb\n",
    "true && echo yes || echo no": "yes\n",
    "false && echo yes || echo no": "no\n",
    "! true; echo $?": "1\n",
    "x=1; echo \"$x\" '$x' $x$x ${x}y ${y:-def} ${x:+set} ${#x}": "1 $x 11 1y def set 1\n",
    "x=/a/b.c; echo ${x#*/} ${x##*/} ${x%.*} ${x%%/*}!": "a/b.c b.c /a/b !\n",
    ": ${y:=new}; echo $y": "new\n",
    'echo a\\ b "c\\"d" \'e"f\' "" end': 'a b c"d e"f  end\n',
    "x='a  b'; echo $x \"$x\"": "a b a  b\n",
    'set -- a "b c"; for i in "$@"; do echo "<$i>"; done; echo $# $*': "<a>\n<b c>\n2 a b c\n",
    "echo `echo sub` $(echo $(echo deep))": "sub deep\n",
    "echo $((1+2*3)) $(( (1+2)*3 )) $((7/2)) $((-7%3)) $((3>2))": "7 9 3 -1 1\n",
    "i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done": "1\n3\n",
    "until false; do break; done; echo $?": "0\n",
    "for i in 1 2; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done": "1a\n2a\n",
    "if false; then echo 1; elif true; then echo 2; else echo 3; fi": "2\n",
    "case abc in x) echo x;; a*|b) echo a;; *) echo other;; esac": "a\n",
    "f() { echo $1; return 4; echo no; }; f z; echo $?": "z\n4\n",
    "{ echo b; echo a; } | sort; (exit 3); echo $?": "a\nb\n3\n",
    "echo a b c | while read x y; do echo $y-$x; done": "b c-a\n",
    "A=5 env | grep A=; echo $A.": "A=5\n.\n",
    "export B=3; sh -c 'echo $B'; unset B; sh -c 'echo $B.'": "3\n.\n",
    "echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f": "a\nb\n",
    "echo out; echo err >&2; echo both 2>&1": "out\nboth\n",
    "echo no >/dev/null; cat </dev/null; echo ok": "ok\n",
    "cd /tmp && pwd; cd ..; pwd; cd -; pwd": "/tmp\n/\n/tmp\n",
    'echo /b*/s[hl]* "/b*"': "/bin/sh /bin/sleep /b*\n",
    "yes | head -n 2": "y\ny\n",
    "eval 'echo a; echo b'; command -v nosuch; echo $?": "a\nb\n127\n",
    "exec echo replaced; echo no": "replaced\n",
    "set -e; false || true; if false; then :; fi; echo on; false; echo no": "on\n",
    "printf '%s-%d\\n' a 3 b 4; printf x": "a-3\nb-4\nx",
    "trap 'echo bye' EXIT; echo hi": "hi\nbye\n",
    "echo $0 $1 # a comment": "sh\n",
    "kill -9 $$; kill -TERM $$; echo alive": "alive\n",
    "sleep 100 & kill $!; wait $!; echo $?": "143\n",
    "busybox echo x; /bin/busybox echo y; /bin/script z": "x\ny\nscript z\n",
    "umask 077; echo x > /tmp/u; stat -c %a /tmp/u": "600\n",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_prints_what_it_prints_in_busybox(script: str) -> None:
    assert sh(make_host(), script)[1] == SCRIPTS[script]


@pytest.mark.parametrize(
    "script, status, error",
    [
        ("exit 7", 7, ""),
        ("exit 300", 44, ""),
        ("false; exit", 1, ""),
        ("exit -1", 2, "sh: exit: line 0: Illegal number: -1\n"),
        ("nope", 127, "sh: nope: not found\n"),
        ("/nope", 127, "sh: /nope: not found\n"),
        ("/etc/passwd", 126, "sh: /etc/passwd: Permission denied\n"),
        ("/bin/foreign", 1, "exec /bin/foreign: exec format error\n"),
        ("echo x > /nodir/f", 1, "sh: can't create /nodir/f: nonexistent directory\n"),
        ("cat < /nofile", 1, "sh: can't open /nofile: no such file\n"),
        ("cd /nodir", 2, "sh: cd: line 0: can't cd to /nodir: No such file or directory\n"),
        ("while", 2, 'sh: syntax error: unexpected end of file (expecting "do")\n'),
        ("if true; then", 2, 'sh: syntax error: unexpected end of file (expecting "fi")\n'),
        ("echo )", 2, 'sh: syntax error: unexpected ")"\n'),
        ('echo "x', 2, "sh: syntax error: unterminated quoted string\n"),
        ("echo $((1/0))", 2, "sh: divide by zero\n"),
        ("set -u; echo $nope", 2, "sh: nope: parameter not set\n"),
        ("trap 'exit 9' EXIT; exit 2", 9, ""),
        (". /nofile", 2, "sh: .: line 0: can't open '/nofile'\n"),
    ],
)
def test_a_script_that_fails_says_so_as_busybox_does(script: str, status: int, error: str) -> None:
    assert sh(make_host(), script) == (status, "", error)


def test_commands_are_read_from_the_standard_input_line_by_line() -> None:
    ran = Ran(make_host(), ["sh"], b"echo a\nif true\nthen echo b; read line\nfi\nnot a command\necho $line\nexit 6\n")

    assert ran.result() == (6, "a\nb\nnot a command\n", "")


def test_a_trap_runs_between_commands_and_may_end_the_script() -> None:
    host = make_host()
    script = "trap 'echo term; exit 9' TERM; echo ready; while true; do sleep 0.01; done"
    ran = Ran(host, ["sh", "-c", script])
    until(lambda: b"ready" in ran.out.data)

    ran.process.signal(signal.SIGTERM)

    assert ran.result() == (9, "ready\nterm\n", "")


def test_a_trap_interrupts_wait_and_read() -> None:
    host = make_host()
    for waiting in ("sleep 1000 & wait; echo $?", "read line"):
        ran = Ran(host, ["sh", "-c", f"trap 'exit 9' USR1; echo ready; {waiting}"], stdin=None)
        until(lambda ran=ran: b"ready" in ran.out.data)  # type: ignore[misc]  # this round's
        ran.process.signal(signal.SIGUSR1)

        assert ran.status() == 9


def test_an_interrupt_ends_a_script_and_a_trap_can_ignore_it() -> None:
    host = make_host()
    ran = Ran(host, ["sh", "-c", "echo ready; sleep 1000; echo no"])
    until(lambda: b"ready" in ran.out.data)
    ran.process.signal(signal.SIGINT)
    assert ran.result() == (130, "ready\n", "")

    ran = Ran(host, ["sh", "-c", "trap '' INT; echo ready; sleep 0.05; echo on"])
    until(lambda: b"ready" in ran.out.data)
    ran.process.signal(signal.SIGINT)
    assert ran.result() == (0, "ready\non\n", "")


def test_an_interrupt_that_comes_while_a_command_is_made_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = FakeProcess.fork

    def interrupted(process: FakeProcess, *made_of: Any) -> FakeProcess:
        process.signal(signal.SIGINT)
        process.checkpoint()
        return fork(process, *made_of)

    monkeypatch.setattr(FakeProcess, "fork", interrupted)

    assert sh(make_host(), "sleep 1000; echo no") == (130, "", "")


def test_what_is_incomplete_is_told_apart_from_what_is_wrong() -> None:
    for text, incomplete in {"if true": True, "echo $(": True, "echo 'a": True, "echo )": False, "fi": False}.items():
        with pytest.raises(SyntaxFailure) as failure:
            parse(text)
        assert failure.value.incomplete is incomplete, text
