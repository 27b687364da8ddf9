"""Mounts: overlays, long lists of lower directories, and the two forms of the differ (MNT-012 to MNT-016, 027, 028)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._mounts import PLACED, RUNNING, bind, lowers, overlay, place
from conformance.suites._tasks import box, bundle
from refimpl.contract.mounts import Mount

TOO_LONG, INVALID, READ_ONLY = "mount options is too long", "invalid argument", "read-only file system"

PAGE = 4096
SHORTENED_FROM = PAGE - 512


def _above(paths):
    return "lowerdir=" + ":".join(paths)


def _numbered(count):
    return sorted(f"n{number}" for number in range(1, count + 1))


# -------------------------------------------------------------------------------------------------------------- a page


@clause("MNT-012", needs=PLACED)
def test_data_of_a_page_is_let_through_and_not_a_byte_more(place):
    """Rejects: data that is cut at the end of the page, and another limit."""
    place.fill("one/name")
    assert place.names(bind(place / "one", "x" * PAGE)) == ["name"]
    assert TOO_LONG in place.refusal(bind(place / "one", "x" * (PAGE + 1)))
    assert TOO_LONG not in place.refusal(Mount("tmpfs", "tmpfs", options=("x" * PAGE,)))
    assert TOO_LONG in place.refusal(Mount("tmpfs", "tmpfs", options=("x" * (PAGE + 1),)))


@clause("MNT-012", needs=PLACED)
def test_the_commas_between_data_count_and_flags_do_not(place):
    """Rejects: lengths that are added up without what joins them, or with what never reaches the kernel."""
    fits = ("size=1m",) * 512  # 4095 bytes with commas
    assert place.refusal(Mount("tmpfs", "tmpfs", options=fits)) == ""
    assert place.refusal(Mount("tmpfs", "tmpfs", options=("nosuid", *fits, "nodev", "noexec"))) == ""
    assert TOO_LONG in place.refusal(Mount("tmpfs", "tmpfs", options=(*fits, "size=1m")))


@clause("MNT-013", needs=PLACED)
@pytest.mark.parametrize("length", [SHORTENED_FROM - 1, SHORTENED_FROM, PAGE, 2 * PAGE])
def test_an_overlay_shows_the_same_however_long_its_names_are(place, length):
    """Rejects: long lists that are cut or refused."""
    bare = len(_above(f"{place.path}/l/{number}" for number in range(1, 21)))
    found = _above(lowers(place, 20, pad=max((length - bare) // 20, 0)))
    # Slashes at the end mean nothing to the kernel.
    found += "/" * max(length - len(found), 0)

    assert place.names(overlay(found)) == _numbered(20)


@clause("MNT-014", needs=PLACED)
def test_a_directory_elsewhere_shortens_less(place):
    """Rejects: shortening that gives up unless all directories are neighbours."""
    found = lowers(place, 30, pad=90)
    place.fill("elsewhere/e")
    assert place.names(overlay(_above([*found, place / "elsewhere"]))) == sorted(["e", *_numbered(30)])


@clause("MNT-014", needs=PLACED)
def test_names_that_begin_alike_are_not_cut(place):
    """Rejects: a common part that is not cut back to its last slash: 12/fs is no 2/fs below 1."""
    stem = "p" * 200 + "/" + "q" * 200 + "/" + "r" * 200
    several = [f"{stem}/1{number}" for number in ("", *range(10))]
    place.fill(*(f"{path}/m{number}" for number, path in enumerate(several)))
    shown = place.names(overlay(_above(place / path for path in several)))
    assert shown == sorted(f"m{number}" for number in range(11))


@clause("MNT-014", needs=PLACED)
def test_with_nothing_in_common_nothing_is_shortened(place):
    """Rejects: other rules for what is shortened, which would make one list work here and not there."""
    found = lowers(place, 60, pad=60)
    assert TOO_LONG in place.refusal(overlay(_above([*found, "/usr"])))
    assert TOO_LONG in place.refusal(overlay(_above(found[:1]), "x" * (PAGE - len(found[0]))))


@clause("MNT-015", needs=PLACED)
def test_a_view_of_128_layers_can_be_compared(place):
    """Rejects: fewer layers than an image may have."""
    found = lowers(place, 128, pad=20)
    assert place.names(overlay(_above(found))) == _numbered(128)
    assert sorted(place.compare([overlay(_above(found[1:]))], [overlay(_above(found))])) == ["n1"]


@clause("MNT-015", needs=RUNNING)
def test_a_task_runs_on_128_layers(box, place):
    """Rejects: a limit that only runtimes have."""
    root = place.program("root")
    found = [*lowers(place, 127, pad=20), root]
    place.fill("u/", "w/")
    for options in ((), (f"upperdir={place / 'u'}", f"workdir={place / 'w'}")):
        ran = box("sh", "-c", "test -e /n1 -a -e /n127 && exit 6")
        ran.run(rootfs=[overlay("index=off", *options, _above(found))])
        assert ran.wait().status == 6
        ran.delete()


@clause("MNT-016", needs=PLACED)
def test_an_overlay_of_one_directory_is_refused(place):
    """Rejects: a consumer that repairs the list into a bind."""
    place.fill("one/name", "u/", "w/")
    assert INVALID in place.refusal(overlay(f"lowerdir={place / 'one'}"))
    writable = overlay(f"lowerdir={place / 'one'}", f"upperdir={place / 'u'}", f"workdir={place / 'w'}")
    assert place.names(writable) == ["name"]


# ---------------------------------------------------------------------------------------------------------- the differ


@clause("MNT-027", needs=PLACED)
def test_the_upper_side_of_a_diff_leaves_its_snapshot_alone(place):
    """Rejects: the active overlay mounted once more as it is, which claims its work directory."""
    place.fill("a/one", "b/one", "b/two", "u/three", "w/")
    above = (f"workdir={place / 'w'}", f"upperdir={place / 'u'}")
    mounts = [overlay("index=off", *above, f"lowerdir={place / 'a'}:{place / 'b'}")]

    assert sorted(place.compare([], mounts)) == ["one", "three", "two"]
    assert place.names(bind(place / "w")) == [], "nothing was prepared for writing"
    assert sorted(place.compare([bind(place / "b")], mounts)) == ["three"]


@clause("MNT-027", needs=RUNNING)
def test_a_snapshot_in_use_can_be_compared(box, place):
    """Rejects: a comparison that is refused because the overlay is mounted already, or that takes it away."""
    root = place.program("root")
    place.fill("u/", "w/")
    mounts = [overlay("index=off", f"workdir={place / 'w'}", f"upperdir={place / 'u'}", f"lowerdir={root}")]
    found = box("sh", "-c", "echo hi >/made", readonly=False)
    found.run(rootfs=mounts)
    assert found.wait().status == 0

    assert "made" in place.compare([bind(root)], mounts)
    assert "made" in place.compare([bind(root)], mounts)
    found.delete()


@clause("MNT-027", needs=PLACED)
def test_the_upper_side_is_read_only_whatever_its_options_say(place):
    """Rejects: options that are kept, of which the last one wins."""
    place.fill("one/name", "two/")
    assert sorted(place.compare([bind(place / "two", "ro")], [bind(place / "one", "ro", "rw")])) == ["name"]
    # Two lower directories at least: what is dropped for reading must not leave one alone.
    single = overlay(f"workdir={place / 'w'}", f"upperdir={place / 'one'}", f"lowerdir={place / 'two'}")
    assert sorted(place.compare([], [single])) == ["name"], "the work directory need not even exist"


LAYER = ("hello", ".wh.gone")


@clause("MNT-028", needs=PLACED)
def test_a_single_overlay_is_written_in_its_upper_directory(place):
    """Rejects: markers that are unpacked as files, and a mount where none is needed."""
    place.fill("low/gone", "low/dir/below", "u/", "w/")
    place.apply(
        [overlay(f"workdir={place / 'w'}", f"upperdir={place / 'u'}", f"lowerdir={place / 'low'}")],
        *LAYER, "dir/", "dir/.wh..wh..opq", "dir/new",
    )  # fmt: skip

    entries = place.compare([], [bind(place / "u")])
    assert sorted(entries) == ["dir", "dir/new", "gone", "hello"]
    assert (entries["gone"].ischr(), entries["gone"].devmajor, entries["gone"].devminor) == (True, 0, 0)
    assert place.names(bind(place / "w")) == [], "nothing was mounted"
    shown = overlay(f"lowerdir={place / 'u'}:{place / 'low'}")
    assert sorted(place.compare([], [shown])) == ["dir", "dir/new", "hello"], "the directory is opaque"


@clause("MNT-028", needs=PLACED)
def test_any_other_list_is_mounted_and_deletions_are_carried_out(place):
    """Rejects: markers for a snapshot that has no use for them."""
    place.fill("one/gone", "low/gone", "u/", "w/", "e/")
    place.apply([bind(place / "one", "rw")], *LAYER)
    assert place.names(bind(place / "one")) == ["hello"]

    above = overlay(f"workdir={place / 'w'}", f"upperdir={place / 'u'}", f"lowerdir={place / 'low'}")
    place.apply([bind(place / "e"), above], *LAYER)
    assert place.names(bind(place / "e")) == []
    assert sorted(place.compare([], [overlay(f"lowerdir={place / 'u'}:{place / 'low'}")])) == ["hello"]


@clause("MNT-028", needs=PLACED)
def test_what_cannot_be_written_is_refused(place):
    """Rejects: a layer that goes somewhere else."""
    place.fill("one/", "two/name")
    assert READ_ONLY in place.unwritable(overlay(f"lowerdir={place / 'one'}:{place / 'two'}"))
    assert READ_ONLY in place.unwritable(bind(place / "one", "ro"))
    assert place.names(bind(place / "one")) == []
