"""mount(2) on the fake host (MNT-002 to MNT-027)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.fs import DiskFS
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.mounttable import Volume
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, InvalidArgument, Unknown
from refimpl.contract.mounts import Mount
from tests.backends.fake.trees import outcome

CTX = CallContext()


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(FakeClock())
    for name in ("one", "two", "target"):
        host.fs.mkdir(f"/{name}")
        host.fs.write(f"/{name}/name", name.encode())
    return host


def bind(source: str, *options: str) -> Mount:
    return Mount("bind", source, options=("rbind", *options))


def test_mounts_of_a_list_stack_and_the_last_is_seen(host: FakeHost) -> None:
    with host.mounter.mounted(CTX, [bind("/one"), bind("/two")]) as root:
        assert root.read("/name") == b"two"
        assert len(host.mounts.entries()) == 2
    assert host.mounts.entries() == []


def test_a_failing_mount_undoes_the_earlier_ones(host: FakeHost) -> None:
    before = [path for path, _ in host.fs.walk("/")]
    with pytest.raises(FileNotFoundError), host.mounter.mounted(CTX, [bind("/one"), bind("/missing")]):
        pass
    assert host.mounts.entries() == []
    after = [path for path, _ in host.fs.walk("/") if not path.startswith("/var")]
    assert after == before


def test_an_empty_list_is_an_empty_directory_that_is_thrown_away_empty(host: FakeHost) -> None:
    with host.mounter.mounted(CTX, []) as root:
        assert root.listdir("/") == []
    assert host.fs.listdir("/var/lib/containerd/tmpmounts") == []
    with host.mounter.mounted(CTX, []) as root:
        root.write("/left", b"x")
    (left,) = host.fs.listdir("/var/lib/containerd/tmpmounts")
    assert host.fs.read(f"/var/lib/containerd/tmpmounts/{left}/left") == b"x"


def test_a_fuse_file_system_needs_a_program_that_is_not_there(host: FakeHost) -> None:
    with pytest.raises(Unknown, match=r"mount helper \[mount.fuse3 \[x /target -o a -t some\]\] failed"):
        host.mounts.mount("/target", Mount("fuse3.some", "x", options=("a",)))


@pytest.mark.parametrize("type", ["bind", "none", ""])
def test_the_option_makes_a_bind_mount_whatever_the_type(host: FakeHost, type: str) -> None:
    with host.mounter.mounted(CTX, [Mount(type, "/one", options=("bind",))]) as root:
        assert root.read("/name") == b"one"


@pytest.mark.parametrize(
    "expected,mount",
    [
        ("ENODEV", Mount("bind", "/one")),
        ("ENODEV", Mount("nosuch", "/one")),
        ("ENOENT", Mount("bind", "/missing", options=("bind",))),
        ("ENOTDIR", Mount("bind", "/one/name", options=("bind",))),
        ("ENOENT", Mount("overlay", "overlay", options=("lowerdir=/missing:/one",))),
        ("EINVAL", Mount("overlay", "overlay", options=("lowerdir=/one",))),
        ("EINVAL", Mount("overlay", "overlay", options=("lowerdir=/one:/two", "bogus=1"))),
        ("EINVAL", Mount("overlay", "overlay", options=("lowerdir=/one", "upperdir=/two"))),
        ("EINVAL", Mount("overlay", "overlay", options=("lowerdir=/one:/two/name",))),
        ("EINVAL", Mount("tmpfs", "tmpfs", options=("private",))),
        ("ENOENT", Mount("ext4", "/dev/mapper/none")),
        ("ENOTBLK", Mount("ext4", "/one/name")),
        ("EINVAL", Mount("ext4", "/dev/fake", options=("defaults",))),
        ("EINVAL", Mount("xfs", "/dev/fake")),
    ],
)
def test_a_mount_fails_with_the_errno_of_the_kernel(host: FakeHost, expected: str, mount: Mount) -> None:
    host.volumes["/dev/fake"] = Volume("ext4", {0: DiskFS(host.clock)})
    assert outcome(host.mounts.mount, "/target", mount) == expected
    assert host.mounts.entries() == []


def test_unknown_options_of_a_bind_are_ignored(host: FakeHost) -> None:
    with host.mounter.mounted(CTX, [bind("/one", "bogus=1", "rprivate")]) as root:
        assert root.read("/name") == b"one"


def test_ro_forbids_every_change_and_the_last_word_counts(host: FakeHost) -> None:
    with host.mounter.mounted(CTX, [bind("/one", "rw", "ro")]) as root:
        calls: list[tuple[Any, ...]] = [
            (root.write, "/name", b""),
            (root.mkdir, "/new"),
            (root.unlink, "/name"),
            (root.rename, "/name", "/other"),
            (root.chmod, "/name", 0o600),
            (root.lchown, "/name", 1, 1),
            (root.utime, "/name", 0, 0),
            (root.setxattr, "/name", "user.a", b""),
            (root.symlink, "x", "/link"),
            (root.link, "/name", "/link"),
            (root.truncate, "/name", 0),
        ]
        assert {outcome(*call) for call in calls} == {"EROFS"}
    with host.mounter.mounted(CTX, [bind("/one", "ro", "rw")]) as root:
        root.write("/name", b"written")


def test_rbind_takes_submounts_along_with_their_own_flags_and_bind_does_not(host: FakeHost) -> None:
    host.fs.mkdir("/one/sub")
    host.mounts.mount("/one/sub", Mount("tmpfs", "tmpfs"))
    host.fs.write("/one/sub/inside", b"x")
    with host.mounter.mounted(CTX, [bind("/one", "ro")]) as root:
        assert root.listdir("/sub") == ["inside"]
        root.write("/sub/inside", b"the submount stays writable")
    with host.mounter.mounted(CTX, [Mount("bind", "/one", options=("bind",))]) as root:
        assert root.listdir("/sub") == []
    assert [entry.target for entry in host.mounts.entries()] == ["/one/sub"]


def test_a_mount_with_another_below_is_busy_and_unmounting_all_takes_both(host: FakeHost) -> None:
    host.mounts.mount("/target", bind("/one"))
    host.fs.mkdir("/target/sub")
    host.mounts.mount("/target/sub", Mount("tmpfs", "tmpfs"))
    assert outcome(host.mounts.unmount, "/target") == "EBUSY"
    assert outcome(host.fs.rmdir, "/target/sub") == "EBUSY"
    host.mounts.unmount_all("/target")
    assert host.mounts.entries() == []
    host.mounts.unmount_all("/target")
    host.mounts.unmount_all("/missing")
    host.mounts.unmount_all("")
    assert outcome(host.mounts.unmount, "/target") == "EINVAL"


def test_a_rename_or_link_does_not_cross_a_mount(host: FakeHost) -> None:
    host.mounts.mount("/target", bind("/one"))
    assert outcome(host.fs.rename, "/two/name", "/target/new") == "EXDEV"
    assert outcome(host.fs.link, "/two/name", "/target/new") == "EXDEV"


def test_data_longer_than_a_page_is_refused_before_the_kernel_is_asked(host: FakeHost) -> None:
    fits = Mount("bind", "/one", options=("bind", "x" * 4096))
    with host.mounter.mounted(CTX, [fits]):
        pass
    too_long = Mount("bind", "/one", options=("bind", "x" * 4097))
    with pytest.raises(Unknown, match="mount options is too long"), host.mounter.mounted(CTX, [too_long]):
        pass


def test_an_overlay_of_128_layers_can_be_mounted(host: FakeHost) -> None:
    layers = [f"/snapshotter/snapshots/{number}/fs" for number in range(128)]
    for number, layer in enumerate(layers):
        host.fs.makedirs(layer)
        host.fs.write(f"{layer}/{number}", b"")
    mount = Mount("overlay", "overlay", options=("index=off", "lowerdir=" + ":".join(layers)))
    assert sum(map(len, mount.options)) < 4096
    longer = Mount("overlay", "overlay", options=("index=off", "lowerdir=" + ":".join(f"/./{at}" for at in layers)))
    for each in (mount, longer):
        with host.mounter.mounted(CTX, [each]) as root:
            assert len(root.listdir("/")) == 128


def test_the_upper_side_of_a_diff_cannot_be_written(host: FakeHost) -> None:
    host.fs.mkdir("/work")
    options = ("lowerdir=/one", "upperdir=/two", "workdir=/work")
    with host.mounter.mounted(CTX, [Mount("overlay", "overlay", options=options)], read_only=True) as root:
        assert root.read("/name") == b"two"
        assert outcome(root.write, "/name", b"") == "EROFS"
    with host.mounter.mounted(CTX, [bind("/one", "rw")], read_only=True) as root:
        assert outcome(root.write, "/name", b"") == "EROFS"


def test_what_this_host_cannot_do_is_said(host: FakeHost) -> None:
    for mount in (
        Mount("ext4", "/one/name", options=("loop",)),
        Mount("overlay", "overlay", options=("lowerdir=/one:/two", "redirect_dir=on")),
    ):
        with pytest.raises(InvalidArgument, match="fake host"), host.mounter.mounted(CTX, [mount]):
            pass


def test_a_remount_changes_the_flags(host: FakeHost) -> None:
    host.mounts.mount("/target", bind("/one"))
    host.mounts.mount("/target", Mount("", "", options=("remount", "bind", "ro")))
    assert [entry.read_only for entry in host.mounts.entries()] == [True]


def test_nothing_is_mounted_for_a_caller_who_went_away(host: FakeHost) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled), host.mounter.mounted(CallContext(cancel=cancel), [bind("/one")]):
        pass
    assert host.mounts.entries() == []


def test_many_threads_mount_at_the_same_time(host: FakeHost) -> None:
    seen: list[bytes] = []

    def work(name: str) -> None:
        for _ in range(30):
            with host.mounter.mounted(CTX, [bind(f"/{name}")]) as root:
                seen.append(root.read("/name"))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(seen) == [b"one"] * 120 + [b"two"] * 120
    assert host.mounts.entries() == []
