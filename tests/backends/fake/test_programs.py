"""The built-in programs: what they print, with busybox's messages, and how they are found."""

from __future__ import annotations

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.programs_lookup import LookupFailure
from refimpl.contract.mounts import FileType
from tests.backends.fake.containers import Ran, make_host, sh

OUTPUTS = {
    "id; whoami": "uid=0(root) gid=0(root)\nroot\n",
    "ls /; ls /etc/passwd /bin": "bin\ndev\netc\ntmp\n/etc/passwd\n\n/bin:\nbusybox\ncat\nforeign\nscript\nsh\nsleep\n",
    "ls -l /etc/secret": "-rw-------    1 root     root             2 Nov 14 22:13 /etc/secret\n",
    "ls -ln /bin/sh": "lrwxrwxrwx    1 0        0                7 Nov 14 22:13 /bin/sh -> busybox\n",
    "mkdir -p /a/b && touch /a/b/c && mv /a/b/c /a/d && cp /etc/secret /a/e && find /a": "/a\n/a/b\n/a/d\n/a/e\n",
    "ln -s x /l; readlink /l; rm /l; rm -rf /nosuch; rmdir /tmp; ls -d /tmp": "x\n",
    "echo abc > /f; chmod 640 /f; chown guest:users /f; stat -c '%a %u %g %s' /f; chmod +x /f; stat -c %a /f":
        "640 405 100 4\n751\n",
    "seq 3 | tail -n 1; seq 3 | wc -l; seq 3 | grep -v 2; echo b | tee /t; cat /t": "3\n3\n1\n3\nb\nb\n",
    "printf 'b\\na\\nb\\n' | sort -u; echo abc | tr a-c A-C; echo x | sha256sum": (
        "a\nb\nABC\n73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac  -\n"
    ),
    "basename /a/b.c .c; dirname /a/b; expr 2 + 3; hostname; nproc; pwd": "b\n/a\n5\nfake\n2\n/\n",
    "date +%Y-%m-%d; uname; tty; env -i A=1 env; printenv PATH": "2023-11-14\nLinux\nnot a tty\nA=1\n/bin\n",
    "[ -f /etc/passwd ] && [ -d /bin ] && [ -L /bin/sh ] && [ ! -e /x ] && [ 1 -lt 2 -a a != b ] && echo ok": "ok\n",
    "dd if=/dev/zero bs=4 count=3 2>/dev/null | wc -c; head -c 2 /etc/passwd; echo": "12\nro\n",
    "echo -n a; echo -e 'b\\tc'; echo -E 'd\\te'": "ab\tc\nd\\te\n",
    "true; echo $?; false; echo $?; kill -l | head -n 1": "0\n1\n 1) HUP\n",
    "timeout 1000 true; echo $?; ps | tail -n 1 | wc -l": "0\n1\n",
}  # fmt: skip


def furnished() -> FakeHost:
    """A host with devices."""
    host = make_host(FakeClock())
    host.fs.makedirs("/image/dev")
    host.fs.mknod("/image/dev/null", FileType.CHAR, 0o666, (1, 3))
    host.fs.mknod("/image/dev/zero", FileType.CHAR, 0o666, (1, 5))
    return host


@pytest.mark.parametrize("script", OUTPUTS)
def test_programs_print_what_busybox_s_print(script: str) -> None:
    assert sh(furnished(), script)[1] == OUTPUTS[script]


@pytest.mark.parametrize(
    "script, status, error",
    [
        ("cat /nosuch", 1, "cat: can't open '/nosuch': No such file or directory\n"),
        ("ls /nosuch", 1, "ls: /nosuch: No such file or directory\n"),
        ("sleep x", 1, "sleep: invalid number 'x'\n"),
        ("busybox nosuch", 127, "nosuch: applet not found\n"),
        ("rm /nosuch", 1, "rm: can't remove '/nosuch': No such file or directory\n"),
        ("rm /etc", 1, "rm: can't remove '/etc': Is a directory\n"),
        ("mkdir /etc", 1, "mkdir: can't create directory '/etc': File exists\n"),
        ("stty size", 1, "stty: standard input: Inappropriate ioctl for device\n"),
        ("kill 999", 1, "kill: can't kill pid 999: No such process\n"),
        ("kill -NOPE 1", 1, "kill: invalid signal 'NOPE'\n"),
        ("env nosuch", 127, "env: can't execute 'nosuch': No such file or directory\n"),
        ("[ 1 -lt x ]", 2, "sh: x: bad number\n"),
    ],
)
def test_programs_complain_as_busybox_s_do(script: str, status: int, error: str) -> None:
    assert sh(make_host(), script) == (status, "", error)


def test_another_user_is_kept_to_the_modes_of_files() -> None:
    host = make_host()

    status, out, err = sh(host, "id; touch /etc/x; cat /etc/secret; touch /tmp/mine; ls -l /tmp", uid=405, gid=100)

    assert out.startswith("uid=405(guest) gid=100(users)\ntotal 0\n-rw-r--r--    1 guest    users            0")
    assert err == "touch: /etc/x: Permission denied\ncat: can't open '/etc/secret': Permission denied\n"
    assert status == 0


@pytest.mark.parametrize(
    "name, text",
    [
        ("nope", "executable file not found in $PATH"),
        ("/no/such", "stat /no/such: no such file or directory"),
        ("/etc", "permission denied"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_what_cannot_be_run_is_refused_with_go_s_words(name: str, text: str) -> None:
    with pytest.raises(LookupFailure, match=text.replace("$", r"\$")):
        Ran(make_host(), [name])


def test_a_bare_name_of_a_built_in_program_needs_no_file() -> None:
    assert Ran(make_host(), ["echo", "hi"]).result() == (0, "hi\n", "")
