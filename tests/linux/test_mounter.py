"""What Linux makes of a list of mounts, and that nothing is left of it. The twin of the fake host's mount table."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from refimpl.backends.fake.host import FakeHost
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, Unknown
from refimpl.contract.mounts import Mount, Mounter
from refimpl.linux import mounting
from refimpl.linux.mount import mount
from refimpl.linux.mounter import KernelMounter
from refimpl.linux.mounting import mount_all, mount_points, perform, unmount_all
from tests.backends.fake.trees import outcome

pytestmark = pytest.mark.root

CTX = CallContext()
SECONDS = 30.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    for name in ("one", "two", "target", "scratch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    (tmp_path / "scratch" / "name").unlink()
    yield tmp_path
    for point in reversed(mount_points(str(tmp_path))):
        subprocess.run(["umount", "--lazy", point], check=False)


@pytest.fixture
def mounter(place: Path) -> KernelMounter:
    return KernelMounter(place / "scratch")


def bind(source: Path, *options: str) -> Mount:
    return Mount("bind", str(source), options=("rbind", *options))


def options_at(point: Path | str) -> list[str]:
    """What the mount table says of the topmost mount: options of the mount and of its file system."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [words[3] for words in lines if words[1] == str(point)][-1].split(",")


def test_mounts_of_a_list_stack_and_the_last_is_seen(place: Path, mounter: KernelMounter) -> None:
    with mounter.mounted(CTX, [bind(place / "one"), bind(place / "two")]) as root:
        assert root.read("/name") == b"two"
        assert len(mount_points(str(place))) == 2
    assert mount_points(str(place)) == []
    assert list((place / "scratch").iterdir()) == []


def test_a_mount_point_is_new_private_and_named_as_containerds(place: Path, mounter: KernelMounter) -> None:
    with mounter.mounted(CTX, []):
        (point,) = (place / "scratch").iterdir()
        assert point.name.removeprefix("containerd-mount").isdigit()
        assert stat.S_IMODE(point.stat().st_mode) == 0o700


def test_a_failing_mount_undoes_the_earlier_ones(place: Path, mounter: KernelMounter) -> None:
    mounts = [bind(place / "one"), bind(place / "missing")]
    with pytest.raises(FileNotFoundError), mounter.mounted(CTX, mounts):
        pass
    assert mount_points(str(place)) == []
    assert list((place / "scratch").iterdir()) == []


def test_what_is_left_in_an_unmounted_directory_stays(place: Path, mounter: KernelMounter) -> None:
    with mounter.mounted(CTX, []) as root:
        assert root.listdir("/") == []
        root.write("/left", b"x")
    (left,) = (place / "scratch").iterdir()
    assert (left / "left").read_bytes() == b"x"


_REFUSED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "bind without the option": ("bind", "AT/one", ()),
    "no such type": ("nosuch", "AT/one", ()),
    "a null byte": ("bind", "AT/one\0/../two", ("bind",)),
    "no source": ("bind", "AT/missing", ("bind",)),
    "a file on a directory": ("bind", "AT/one/name", ("bind",)),
    "no lower directory": ("overlay", "overlay", ("lowerdir=AT/missing:AT/one",)),
    "one lower directory": ("overlay", "overlay", ("lowerdir=AT/one",)),
    "unknown data": ("overlay", "overlay", ("lowerdir=AT/one:AT/two", "bogus=1")),
    "no work directory": ("overlay", "overlay", ("lowerdir=AT/one", "upperdir=AT/two")),
    "a file as lower directory": ("overlay", "overlay", ("lowerdir=AT/one:AT/two/name",)),
    "propagation": ("tmpfs", "tmpfs", ("private",)),
    "defaults": ("tmpfs", "tmpfs", ("defaults",)),
    "no device": ("ext4", "/dev/no-such", ()),
    "a file as device": ("ext4", "AT/one/name", ()),
    "long data": ("tmpfs", "tmpfs", ("x" * 4097,)),
    "data of a page": ("tmpfs", "tmpfs", ("x" * 4096,)),
    "long data of a bind": ("bind", "AT/one", ("bind", "x" * 4097)),
    "a helper that is not there": ("fuse.nosuch", "x", ()),
}


def _attempt(mounter: Mounter, case: str, at: str) -> tuple[str, str]:
    type, source, options = _REFUSED[case]
    mount = Mount(type, source.replace("AT", at), options=tuple(option.replace("AT", at) for option in options))
    try:
        with mounter.mounted(CTX, [mount]):
            return "mounted", ""
    except OSError as error:
        return outcome(_reraise, error), ""
    except Unknown as error:
        return "Unknown", str(error).partition(" [")[0]


def _reraise(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("case", _REFUSED)
def test_a_refusal_is_the_same_in_the_fake_world(place: Path, mounter: KernelMounter, case: str) -> None:
    host = FakeHost()
    for name in ("one", "two"):
        host.fs.makedirs(f"/at/{name}")
        host.fs.write(f"/at/{name}/name", b"")
    assert _attempt(mounter, case, str(place)) == _attempt(host.mounter, case, "/at")
    assert mount_points(str(place)) == []


def test_a_read_only_bind_has_all_its_flags(place: Path) -> None:
    target = place / "target"
    perform(bind(place / "one", "ro", "nosuid", "nodev", "noexec"), str(target))
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options_at(target))
    assert outcome(os.unlink, target / "name") == "EROFS"
    unmount_all(str(target))
    assert mount_points(str(target)) == []


def test_the_last_of_contradicting_flags_wins(place: Path) -> None:
    perform(bind(place / "one", "ro", "rw"), str(place / "target"))
    (place / "target" / "written").touch()
    assert (place / "one" / "written").exists()


def test_every_flag_of_a_file_system_is_set(place: Path) -> None:
    flags = ("nosuid", "nodev", "noexec", "sync", "dirsync", "noatime", "nodiratime")
    perform(Mount("tmpfs", "tmpfs", options=(*flags, "size=1m", "mode=711")), str(place / "target"))
    assert {*flags, "size=1024k", "mode=711"} <= set(options_at(place / "target"))


def test_submounts_come_along_with_rbind_and_are_unmounted_with_it(place: Path) -> None:
    (place / "one" / "sub").mkdir()
    perform(Mount("tmpfs", "tmpfs"), str(place / "one" / "sub"))
    (place / "one" / "sub" / "inside").touch()
    perform(bind(place / "one"), str(place / "target"))
    assert (place / "target" / "sub" / "inside").exists()
    perform(Mount("tmpfs", "tmpfs"), str(place / "target" / "sub"))
    unmount_all(str(place / "target"))
    assert mount_points(str(place)) == [str(place / "one" / "sub")]
    perform(Mount("", str(place / "one"), options=("bind",)), str(place / "target"))
    assert not (place / "target" / "sub" / "inside").exists()


def test_unmounting_what_is_not_mounted_is_no_error(place: Path) -> None:
    for target in ("", str(place / "one"), str(place / "missing"), str(place / "one" / "name" / "x")):
        unmount_all(target)


def test_a_busy_mount_is_tried_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = place / "target"
    perform(bind(place / "one"), str(target))
    held = (target / "name").open()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            held.close()

    with monkeypatch.context() as patch:
        patch.setattr(mounting, "time", SimpleNamespace(sleep=sleep))
        unmount_all(str(target))
    assert pauses == [0.05] * 3
    assert mount_points(str(target)) == []


def test_a_mount_that_stays_busy_is_told_and_keeps_its_directory(
    place: Path, mounter: KernelMounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(mounting, "time", SimpleNamespace(sleep=pauses.append))
    busy = pytest.raises(OSError, match=r"failed to unmount target .*: device or resource busy")
    with busy, mounter.mounted(CTX, [bind(place / "one")]) as root:
        held = root.open("/name")
    assert sum(pauses) == pytest.approx(2.5)
    (point,) = mount_points(str(place))
    held.close()
    unmount_all(point)
    assert (place / "one" / "name").exists()


def test_a_spaced_place_is_found_in_the_mount_table(place: Path) -> None:
    odd = place / "a b\tc\\d\n"
    odd.mkdir()
    perform(bind(place / "one"), str(odd))
    assert mount_points(str(place)) == [str(odd)]
    unmount_all(str(odd))


def _layers(place: Path, count: int, *, name: int = 1) -> list[str]:
    """Lower directories ``.../snapshots/N/fs`` whose path has ``name`` characters more than it must."""
    top = place / ("s" * name) / "snapshots"
    made = []
    for number in range(1, count + 1):
        layer = top / str(number) / "fs"
        layer.mkdir(parents=True)
        (layer / str(number)).touch()
        made.append(str(layer))
    return made


def test_an_overlay_of_128_layers_is_mounted_without_moving_the_process(place: Path, mounter: KernelMounter) -> None:
    layers = _layers(place, 128, name=60)
    own = Path(layers[0]).parent.with_name("129")
    for name in ("fs", "work"):
        (own / name).mkdir(parents=True)
    lower = "lowerdir=" + ":".join(layers)
    upper = (f"workdir={own}/work", f"upperdir={own}/fs")
    before = Path.cwd()
    seen: list[Path] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(Path.cwd())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for options in ((lower,), ("index=off", *upper, lower)):
            with mounter.mounted(CTX, [Mount("overlay", "overlay", options=options)]) as root:
                assert len(root.listdir("/")) == 128
        with mounter.mounted(CTX, [Mount("overlay", "overlay", options=(*upper, lower))], read_only=True) as root:
            assert outcome(root.write, "/new", b"") == "EROFS"
    finally:
        done.set()
        watcher.join()
    assert {*seen, Path.cwd()} == {before}


@pytest.mark.parametrize("length,relative", [(3583, False), (3584, True)])
def test_lower_directories_become_relative_at_3584_bytes(place: Path, length: int, relative: bool) -> None:
    bare = len("lowerdir=" + ":".join(f"{place}/s/snapshots/{number}/fs" for number in range(1, 21)))
    name, rest = divmod(length - bare, 20)
    layers = _layers(place, 20, name=name + 1)
    # What is missing to the length are slashes, which mean nothing.
    lower = "lowerdir=" + "/" * rest + ":".join(layers)
    assert len(lower) == length
    perform(Mount("overlay", "overlay", options=(lower,)), str(place / "target"))
    (shown,) = [option for option in options_at(place / "target") if option.startswith("lowerdir=")]
    if not relative or not rest:
        assert shown.startswith("lowerdir=1/fs:") is relative
    assert len(list((place / "target").iterdir())) == 20


def test_with_nothing_but_root_in_common_nothing_is_shortened(place: Path) -> None:
    target = str(place / "target")
    lower = "lowerdir=" + ":".join([*_layers(place, 60, name=60), "/usr"])
    with pytest.raises(Unknown, match="mount options is too long"):
        perform(Mount("overlay", "overlay", options=(lower,)), target)
    assert mount_points(target) == []


def test_the_read_only_side_of_a_diff_shows_the_upper_directory_as_the_first_lower(
    place: Path, mounter: KernelMounter
) -> None:
    (place / "work").mkdir()
    options = ("index=off", f"workdir={place}/work", f"upperdir={place}/two", f"lowerdir={place}/one")
    with mounter.mounted(CTX, [Mount("overlay", "overlay", options=options)], read_only=True) as root:
        (point,) = mount_points(str(place))
        assert f"lowerdir={place}/two:{place}/one" in options_at(point)
        assert root.read("/name") == b"two"
        assert outcome(root.write, "/name", b"") == "EROFS"
    with mounter.mounted(CTX, [bind(place / "one", "rw")], read_only=True) as root:
        assert outcome(root.write, "/name", b"") == "EROFS"


@pytest.fixture
def image(place: Path) -> Path:
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    return image


def until_no_loops(*images: Path) -> None:
    """Wait until no device has one of the files: udev looks into each, and the last who has it open clears it."""
    end = time.monotonic() + SECONDS
    while found := [path for image in images for path in _loops_of(image)]:
        assert time.monotonic() < end, found
        time.sleep(0.01)


def _loops_of(image: Path) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found.append(backing.read_text().strip())
    return [each for each in found if each == str(image)]


@pytest.mark.debian("mkfs.ext4")
@pytest.mark.parametrize("flag", ["rw", "ro"])
def test_a_file_is_mounted_by_a_loop_device_that_goes_with_the_mount(
    image: Path, mounter: KernelMounter, flag: str
) -> None:
    with mounter.mounted(CTX, [Mount("ext4", str(image), options=("loop", flag))]) as root:
        assert root.listdir("/") == ["lost+found"]
        assert outcome(root.write, "/file", b"") == ("EROFS" if flag == "ro" else "")
        assert _loops_of(image) == [str(image)]
    until_no_loops(image)


@pytest.mark.debian("mkfs.ext4")
def test_a_loop_device_goes_when_the_mount_fails(image: Path, mounter: KernelMounter) -> None:
    for type, options in (("ext4", ("loop", "defaults")), ("btrfs", ("loop",)), ("nosuch", ("loop",))):
        refused = pytest.raises(OSError, match=r"Invalid argument|No such device")
        with refused, mounter.mounted(CTX, [Mount(type, str(image), options=options)]):
            pass
    until_no_loops(image)


@pytest.mark.debian("mkfs.ext4")
def test_loop_devices_are_shared_out_between_threads(image: Path, place: Path) -> None:
    copies = [place / f"copy{number}" for number in range(6)]
    for copy in copies:
        copy.write_bytes(image.read_bytes())
    failed: list[BaseException] = []

    def work(copy: Path) -> None:
        try:
            for _ in range(3):
                with KernelMounter(place / "scratch").mounted(CTX, [Mount("ext4", str(copy), options=("loop",))]):
                    pass
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    until_no_loops(*copies)


def test_a_missing_backing_file_is_told(mounter: KernelMounter, place: Path) -> None:
    mount = Mount("ext4", str(place / "missing"), options=("loop",))
    with pytest.raises(FileNotFoundError, match="could not open backing file"), mounter.mounted(CTX, [mount]):
        pass


def test_fuse_file_systems_are_mounted_by_their_program(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = place / "mount.fuse3"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >{place}/told\necho no such luck\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    target = str(place / "target")
    with pytest.raises(Unknown, match=r'failed: "no such luck\n": exit status 3'):
        mount_all([bind(place / "one"), Mount("fuse3.some", "x", options=("a=1", "ro"))], target)
    assert (place / "told").read_text() == f"x|{target}|-o|a=1|-o|ro|-t|some|"
    assert mount_points(str(place)) == []
    with pytest.raises(Unknown, match=r"mount helper \[mount.fuse \[x /.* -t some\]\] failed: .*not found"):
        perform(Mount("fuse.some", "x"), target)


@pytest.mark.parametrize("works", [True, False])
def test_a_fuse_file_system_is_given_up_by_its_own_program_first(
    place: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """Nobody serves this file system: whoever looks into it waits for ever."""
    for name, status in (("fusermount3", 1), ("fusermount", 0 if works else 1)):
        program = place / name
        undo = 'umount --no-canonicalize --internal-only "$2"' if not status else "true"
        program.write_text(f'#!/bin/sh\necho "{name} $@" >>{place}/told\n{undo}\nexit {status}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    target = str(place / "target")
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        mount("none", target, "fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
        undoing = threading.Thread(target=unmount_all, args=(target,))
        undoing.start()
        undoing.join(SECONDS)
    finally:
        os.close(device)
        undoing.join()
    assert mount_points(target) == []
    assert (place / "told").read_text() == f"fusermount3 -u {target}\nfusermount -u {target}\n"


def test_nothing_is_mounted_for_a_caller_who_went_away(place: Path, mounter: KernelMounter) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled), mounter.mounted(CallContext(cancel=cancel), [bind(place / "one")]):
        pass
    assert list((place / "scratch").iterdir()) == []
