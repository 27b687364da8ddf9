"""The six snapshotters on a fake host: what all owe, and what each answers (SNP-009 to SNP-085, SNX-001 to SNX-071)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost, HostFeatures
from refimpl.backends.fake.snapshotters.directories import AufsLayers, NativeLayers, OverlayLayers
from refimpl.backends.fake.snapshotters.snapshotter import FakeSnapshotter
from refimpl.backends.fake.snapshotters.volumes import BtrfsLayers, DevmapperLayers, ZfsLayers
from refimpl.client import Client
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    AlreadyExists,
    Canceled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.mounts import Mount, RootFS
from refimpl.contract.snapshots import Cleaner, Info, Kind, Snapshotter, Usage
from refimpl.kernel import assembled
from tests.acceptance.daemons import containerd, running
from tests.backends.fake.trees import outcome

CTX = CallContext()
MAKERS: dict[str, Any] = {
    "aufs": AufsLayers,
    "btrfs": BtrfsLayers,
    "devmapper": DevmapperLayers,
    "native": NativeLayers,
    "overlayfs": OverlayLayers,
    "zfs": ZfsLayers,
}
LAYERED = {"aufs", "overlayfs"}


class Bench:
    """A snapshotter with its host, and short ways to say what the tests say often."""

    def __init__(self, name: str, host: FakeHost) -> None:
        self.name = name
        self.host = host
        self.snapshotter: Snapshotter = FakeSnapshotter(host, MAKERS[name](host, f"/root/{name}"))

    @contextmanager
    def mounted(self, key: str) -> Iterator[RootFS]:
        with self.host.mounter.mounted(CTX, self.snapshotter.mounts(CTX, key)) as root:
            yield root

    def layer(self, name: str, parent: str = "", **files: str) -> None:
        """Commit a layer with these files."""
        self.snapshotter.prepare(CTX, f"making-{name}", parent)
        with self.mounted(f"making-{name}") as root:
            for file, content in files.items():
                root.write(f"/{file}", content.encode())
        self.snapshotter.commit(CTX, name, f"making-{name}")


@pytest.fixture(params=sorted(MAKERS))
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param, FakeHost(FakeClock()))


def test_a_chain_of_layers_shows_each_layers_files(bench: Bench) -> None:
    bench.layer("base", first="1", both="base")
    bench.layer("middle", "base", second="2", both="middle")
    bench.snapshotter.prepare(CTX, "work", "middle")
    with bench.mounted("work") as root:
        assert [root.read(f"/{name}") for name in ("first", "second", "both")] == [b"1", b"2", b"middle"]
        root.unlink("/first")
    bench.snapshotter.view(CTX, "look", "middle")
    with bench.mounted("look") as root:
        assert root.exists("/first"), "the parent keeps what its child deletes"


@pytest.mark.parametrize("parent", ["", "base", "middle"])
def test_a_view_is_read_only_at_every_depth(bench: Bench, parent: str) -> None:
    bench.layer("base", file="x")
    bench.layer("middle", "base")
    bench.snapshotter.view(CTX, "look", parent)
    with bench.mounted("look") as root:
        assert outcome(root.write, "/new", b"") == "EROFS"
    assert bench.snapshotter.usage(CTX, "look") == Usage()


def test_mounts_repeats_the_first_answer(bench: Bench) -> None:
    bench.layer("base")
    assert bench.snapshotter.prepare(CTX, "a", "base") == bench.snapshotter.mounts(CTX, "a")
    assert bench.snapshotter.view(CTX, "v", "base") == bench.snapshotter.mounts(CTX, "v")


def test_a_fresh_root_is_0755_and_roots_own(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    with bench.mounted("a") as root:
        stat = root.lstat("/")
        assert (stat.mode, stat.uid, stat.gid) == (0o755, 0, 0)


def test_the_owner_of_the_root_is_inherited(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    with bench.mounted("a") as root:
        root.lchown("/", 7, 8)
    bench.snapshotter.commit(CTX, "base", "a")
    bench.snapshotter.prepare(CTX, "child", "base")
    with bench.mounted("child") as root:
        assert (root.lstat("/").uid, root.lstat("/").gid) == (7, 8)


def test_renaming_a_lower_directory_works_or_says_exdev(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    with bench.mounted("a") as root:
        root.mkdir("/dir")
    bench.snapshotter.commit(CTX, "base", "a")
    bench.snapshotter.prepare(CTX, "child", "base")
    with bench.mounted("child") as root:
        assert outcome(root.rename, "/dir", "/moved") == ("EXDEV" if bench.name in LAYERED else "")


def test_siblings_do_not_see_each_other(bench: Bench) -> None:
    bench.layer("base", file="base")
    for key in ("left", "right"):
        bench.snapshotter.prepare(CTX, key, "base")
    with bench.mounted("left") as left, bench.mounted("right") as right:
        left.write("/file", b"left")
        left.write("/new", b"")
        assert (right.read("/file"), right.exists("/new")) == (b"base", False)


def test_usage_follows_what_is_written_and_is_fixed_by_commit(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    before = bench.snapshotter.usage(CTX, "a").size
    with bench.mounted("a") as root:
        root.write("/big", bytes(100_000))
    full = bench.snapshotter.usage(CTX, "a")
    assert full.size - before == 102_400
    bench.snapshotter.commit(CTX, "base", "a")
    assert bench.snapshotter.usage(CTX, "base") == full
    bench.layer("small", "base", little="x")
    small = bench.snapshotter.usage(CTX, "small").size
    assert (small < full.size) == (bench.name != "native"), "only native counts the copy"


def test_errors_have_the_kind_and_text_that_containerd_gives(bench: Bench) -> None:
    snapshotter = bench.snapshotter
    bench.layer("base")
    snapshotter.prepare(CTX, "a", "base")
    snapshotter.view(CTX, "v", "base")
    cases: list[tuple[type[Exception], str, Any]] = [
        (AlreadyExists, "snapshot base: already exists", lambda: snapshotter.prepare(CTX, "base")),
        (NotFound, 'missing parent "b" bucket: not found', lambda: snapshotter.prepare(CTX, "x", "b")),
        (InvalidArgument, 'parent "a" is not committed snapshot: invalid', lambda: snapshotter.view(CTX, "x", "a")),
        (Unknown, "bucket name required", lambda: snapshotter.prepare(CTX, "")),
        (Unknown, "bucket name required", lambda: snapshotter.commit(CTX, "", "a")),
        (AlreadyExists, "committed snapshot base: already exists", lambda: snapshotter.commit(CTX, "base", "a")),
        (AlreadyExists, "committed snapshot a: already exists", lambda: snapshotter.commit(CTX, "a", "a")),
        (NotFound, "snapshot does not exist: not found", lambda: snapshotter.commit(CTX, "x", "none")),
        (FailedPrecondition, 'snapshot "v" is not active', lambda: snapshotter.commit(CTX, "x", "v")),
        (FailedPrecondition, 'snapshot "base" is not active', lambda: snapshotter.commit(CTX, "x", "base")),
        (FailedPrecondition, "not active or view: failed", lambda: snapshotter.mounts(CTX, "base")),
        (FailedPrecondition, "cannot remove snapshot with child", lambda: snapshotter.remove(CTX, "base")),
        (NotFound, "snapshot none: not found", lambda: snapshotter.remove(CTX, "none")),
        (NotFound, "snapshot does not exist", lambda: snapshotter.stat(CTX, "")),
        (NotFound, "snapshot does not exist", lambda: snapshotter.usage(CTX, "none")),
        (NotFound, "snapshot does not exist", lambda: snapshotter.update(CTX, Info("none"))),
        (InvalidArgument, 'cannot update "kind" field', lambda: snapshotter.update(CTX, Info("a"), ["kind"])),
        (InvalidArgument, "filter", lambda: snapshotter.walk(CTX, ["=="])),
    ]
    before = list(snapshotter.walk(CTX))
    for kind, text, call in cases:
        with pytest.raises(kind) as error:
            call()
        assert text in str(error.value)
    assert list(snapshotter.walk(CTX)) == before, "a refused call changes nothing"


@pytest.mark.parametrize("key", ["../escape", "a/b", " ", "é", "x" * 32769, "new\nline", "nul\0"])
def test_a_key_is_any_text_and_never_part_of_a_path(bench: Bench, key: str) -> None:
    mounts = bench.snapshotter.prepare(CTX, key)
    assert bench.snapshotter.stat(CTX, key).name == key
    assert key not in repr(mounts) or key == " "


def test_labels_are_kept_replaced_and_not_inherited(bench: Bench) -> None:
    snapshotter = bench.snapshotter

    def own(key: str) -> dict[str, str]:
        return {k: v for k, v in snapshotter.stat(CTX, key).labels.items() if "devmapper" not in k}

    snapshotter.prepare(CTX, "a", labels={"kept": "1", "empty": ""})
    assert own("a") == {"kept": "1"}
    snapshotter.update(CTX, Info("a", labels={"x": "1", "y": "2"}), ["labels.x"])
    assert own("a") == {"kept": "1", "x": "1"}
    snapshotter.update(CTX, Info("a", labels={}), ["labels.kept"])
    assert own("a") == {"x": "1"}
    snapshotter.commit(CTX, "base", "a", labels={"new": "1"})
    assert own("base") == {"new": "1"}
    snapshotter.prepare(CTX, "child", "base")
    assert own("child") == {}
    with pytest.raises(Unknown, match="key required"):
        snapshotter.prepare(CTX, "bad", labels={"": "value"})


def test_a_walk_is_ordered_by_name_and_filtered(bench: Bench) -> None:
    bench.layer("b")
    bench.snapshotter.prepare(CTX, "c", "b", labels={"app.name": "x"})
    bench.snapshotter.view(CTX, "a", "b")

    def names(*filters: str) -> list[str]:
        return [info.name for info in bench.snapshotter.walk(CTX, filters)]

    assert names() == ["a", "b", "c"]
    assert names("kind==committed", "labels.app.name==x") == ["b", "c"]
    assert names("parent==b,kind==view") == ["a"]
    assert names('parent==""') == ["b"]


def test_a_removed_snapshot_gives_its_storage_back(bench: Bench) -> None:
    def litter() -> tuple[list[str], list[str]]:
        files = [path for path, _ in bench.host.fs.walk("/root") if not path.endswith(".db")]
        return files, sorted(bench.host.volumes)

    before = litter()
    bench.layer("base", file="x")
    bench.snapshotter.view(CTX, "v", "base")
    bench.snapshotter.prepare(CTX, "a", "base")
    for key in ("v", "a", "base"):
        bench.snapshotter.remove(CTX, key)
    assert isinstance(bench.snapshotter, Cleaner)
    if bench.name in LAYERED | {"devmapper"}:
        bench.snapshotter.cleanup(CTX)
    else:
        with pytest.raises(Unimplemented):
            bench.snapshotter.cleanup(CTX)
    assert litter() == before


def test_another_kernel_on_the_same_host_finds_everything(bench: Bench) -> None:
    bench.layer("base", file="kept")
    mounts = bench.snapshotter.prepare(CTX, "a", "base")
    again = Bench(bench.name, bench.host)
    assert list(again.snapshotter.walk(CTX)) == list(bench.snapshotter.walk(CTX))
    assert again.snapshotter.mounts(CTX, "a") == mounts
    with again.mounted("a") as root:
        assert root.read("/file") == b"kept"


def test_one_of_many_wins_a_key(bench: Bench) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait(timeout=60)
        try:
            bench.snapshotter.prepare(CTX, "key")
            outcomes.append("won")
        except AlreadyExists:
            outcomes.append("lost")

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]


def test_a_caller_who_went_away_leaves_nothing(bench: Bench) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Canceled):
        bench.snapshotter.prepare(CallContext(cancel=cancel), "a")
    assert list(bench.snapshotter.walk(CTX)) == []


# --- what each answers


def shown(mounts: list[Mount]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(mount.type, mount.source, mount.options) for mount in mounts]


def test_overlayfs_with_the_label_says_where_each_layer_is() -> None:
    host = FakeHost(FakeClock())
    snapshotter = FakeSnapshotter(host, OverlayLayers(host, "/r", upperdir_label=True))
    snapshotter.prepare(CTX, "a")
    label = "containerd.io/snapshot/overlay.upperdir"
    assert snapshotter.stat(CTX, "a").labels == {label: "/r/snapshots/1/fs"}
    assert [info.name for info in snapshotter.walk(CTX, [f'labels."{label}"=="/r/snapshots/1/fs"'])] == ["a"]


def test_overlayfs_asks_for_what_the_kernel_has_and_needs() -> None:
    host = FakeHost(FakeClock(), HostFeatures(overlay_index=False, user_namespace=True))
    bench = Bench("overlayfs", host)
    bench.layer("base", file="x")
    [mount] = bench.snapshotter.prepare(CTX, "a", "base")
    assert mount.options[:1] == ("userxattr",)
    with bench.mounted("a") as root:
        root.unlink("/file")


def test_overlayfs_deletes_only_in_cleanup_and_then_every_stray() -> None:
    bench = Bench("overlayfs", FakeHost(FakeClock()))
    bench.snapshotter.prepare(CTX, "a")
    bench.host.fs.mkdir("/root/overlayfs/snapshots/new-123")
    bench.snapshotter.remove(CTX, "a")
    assert bench.host.fs.listdir("/root/overlayfs/snapshots") == ["1", "new-123"]
    assert isinstance(bench.snapshotter, Cleaner)
    bench.snapshotter.cleanup(CTX)
    assert bench.host.fs.listdir("/root/overlayfs/snapshots") == []


def test_ids_are_never_used_again() -> None:
    bench = Bench("overlayfs", FakeHost(FakeClock()))
    sources = []
    for _ in range(3):
        sources += [mount.source for mount in bench.snapshotter.prepare(CTX, "key")]
        bench.snapshotter.remove(CTX, "key")
    assert sources == [f"/root/overlayfs/snapshots/{number}/fs" for number in (1, 2, 3)]


def test_aufs_lists_its_branches() -> None:
    bench = Bench("aufs", FakeHost(FakeClock()))
    bench.layer("base")
    at = "/root/aufs/snapshots"
    assert shown(bench.snapshotter.prepare(CTX, "a", "base")) == [
        ("aufs", "none", ("dio", "xino=/dev/shm/aufs.xino", "dirperm1", f"br:{at}/2/fs=rw:{at}/1/fs=ro+wh"))
    ]
    assert shown(bench.snapshotter.view(CTX, "v", "base")) == [("bind", f"{at}/1/fs", ("ro", "rbind"))]


def test_btrfs_names_its_subvolumes_by_id() -> None:
    bench = Bench("btrfs", FakeHost(FakeClock()))
    bench.layer("base")
    assert shown(bench.snapshotter.prepare(CTX, "a", "base")) == [("btrfs", "/dev/fake-btrfs0", ("subvolid=258",))]
    assert shown(bench.snapshotter.view(CTX, "v", "base")) == [("btrfs", "/dev/fake-btrfs0", ("subvolid=259", "ro"))]
    assert [bench.host.fs.listdir(f"/root/btrfs/{name}") for name in ("active", "view", "snapshots")] == [
        ["2"], ["3"], ["1"],
    ]  # fmt: skip
    assert bench.snapshotter.usage(CTX, "a") == Usage(0, 1)


def test_devmapper_names_its_devices_and_passes_the_file_system_type_on() -> None:
    host = FakeHost(FakeClock())
    label = "containerd.io/snapshot/devmapper/fstype"
    snapshotter = FakeSnapshotter(host, DevmapperLayers(host, "/r", pool="pool", fs_type="xfs"))
    assert shown(snapshotter.prepare(CTX, "a")) == [("xfs", "/dev/mapper/pool-snap-1", ("nouuid",))]
    snapshotter.commit(CTX, "base", "a")
    assert "/dev/mapper/pool-snap-1" not in host.volumes
    later = FakeSnapshotter(host, DevmapperLayers(host, "/r", pool="pool"))
    assert shown(later.view(CTX, "v", "base")) == [("xfs", "/dev/mapper/pool-snap-2", ("nouuid", "ro"))]
    assert [info.labels[label] for info in later.walk(CTX)] == ["xfs", "xfs"]
    assert [host.fs.lstat(f"/r/{name}").mode for name in ("", "metadata.db", "pool.db")] == [0o750, 0o600, 0o600]


def test_devmapper_does_not_remove_a_mounted_device() -> None:
    bench = Bench("devmapper", FakeHost(FakeClock()))
    bench.snapshotter.prepare(CTX, "a")
    with bench.mounted("a"), pytest.raises(FailedPrecondition, match="busy"):
        bench.snapshotter.remove(CTX, "a")
    assert bench.snapshotter.stat(CTX, "a").kind is Kind.ACTIVE, "the record stays"
    bench.snapshotter.remove(CTX, "a")


@pytest.mark.parametrize(
    "options,text",
    [
        ({"size": "abc"}, "failed to parse base image size: 'abc': invalid size: 'abc'"),
        ({"fs_type": "btrfs"}, '1 error occurred:\n\t* unsupported Filesystem Type: "btrfs"\n\n'),
    ],
)
def test_devmapper_refuses_the_configurations_that_the_real_one_refuses(options: dict[str, str], text: str) -> None:
    with pytest.raises(Unknown) as error:
        DevmapperLayers(FakeHost(), "/r", **options)  # type: ignore[arg-type]  # strings only
    assert str(error.value) == text


def test_zfs_names_its_datasets_and_says_ro_each_time() -> None:
    bench = Bench("zfs", FakeHost(FakeClock()))
    bench.layer("base")
    assert shown(bench.snapshotter.prepare(CTX, "a", "base")) == [("zfs", "fake-zpool/root/zfs/2", ())]
    bench.snapshotter.view(CTX, "v", "base")
    assert shown(bench.snapshotter.mounts(CTX, "v")) == [("zfs", "fake-zpool/root/zfs/3", ("ro",))]
    assert bench.snapshotter.usage(CTX, "a").inodes == -1


def test_all_six_load_in_a_fake_kernel_and_touch_no_disk(tmp_path: Path) -> None:
    with assembled(root=tmp_path / "root", state=tmp_path / "state", backends="fake") as plugins:
        bench = plugins.get_by_type("io.containerd.snapshotter.v1")
        assert {id: plugin.error for id, plugin in bench.items()} == dict.fromkeys(MAKERS)
    assert list(tmp_path.iterdir()) == []


# --- the real daemon


@pytest.mark.root
@pytest.mark.debian("containerd")
@pytest.mark.parametrize("name", ["native", "overlayfs"])
def test_mounts_and_usage_are_those_of_the_real_daemon(tmp_path: Path, name: str) -> None:
    with running(containerd(tmp_path)) as daemon, Client(str(daemon.socket)) as client:
        real = client.snapshotter(name)
        root = f"{daemon.root}/io.containerd.snapshotter.v1.{name}"
        host = FakeHost()
        fake = FakeSnapshotter(host, MAKERS[name](host, root))
        expected = _history(real, CallContext("default"))
        assert _history(fake, CTX) == expected
        assert [path for path, _ in host.fs.walk(root)] == sorted(
            str(path) for path in [Path(root), *Path(root).rglob("*")]
        )
        for path, stat in host.fs.walk(root):
            assert (path, stat.mode) == (path, Path(path).stat().st_mode & 0o7777)


def _history(snapshotter: Snapshotter, ctx: CallContext) -> list[object]:
    """What a snapshotter answers to the same calls in order."""
    answers: list[object] = [snapshotter.prepare(ctx, "a"), snapshotter.usage(ctx, "a")]
    snapshotter.commit(ctx, "one", "a")
    answers += [snapshotter.view(ctx, "v1", "one"), snapshotter.prepare(ctx, "b", "one")]
    snapshotter.commit(ctx, "two", "b")
    answers += [snapshotter.view(ctx, "v2", "two"), snapshotter.prepare(ctx, "c", "two"), snapshotter.view(ctx, "v0")]
    answers += [snapshotter.usage(ctx, key) for key in ("one", "two", "c", "v0", "v1", "v2")]
    answers += [snapshotter.mounts(ctx, key) for key in ("v0", "v1", "v2", "c")]
    return answers
