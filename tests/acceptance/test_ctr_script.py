"""The same script of ``ctr`` commands says the same against refimpl and against containerd."""

from pathlib import Path

import pytest

from tests.acceptance import daemons, images
from tests.acceptance.script import CHAPTERS, DIFF, EVENTS, IMAGES, SNAPSHOTS, Chapter
from tests.acceptance.transcript import RECORDED_WITH, differences, read_golden, record

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)


def _skip_unless_recorded_here() -> None:
    recorded, here = RECORDED_WITH.read_text(encoding="utf-8").strip(), daemons.ctr_version()
    if recorded != here:
        pytest.skip(
            f"the goldens were recorded with ctr {recorded}, this is {here}: other releases print other columns"
        )
    if images.goarch() != "amd64":
        pytest.skip(f"the goldens were recorded on amd64, this is {images.goarch()}: the images have other digests")


@pytest.mark.debian("ctr")
@each_chapter
def test_refimpl_says_what_was_recorded_from_containerd(
    chapter: Chapter, base: Path, fixed_archives: images.Images
) -> None:
    _skip_unless_recorded_here()
    with daemons.running(daemons.refimpl(base)) as daemon:
        actual = record(daemon, chapter, fixed_archives)
    diff = differences(read_golden(chapter), actual, ("containerd", "refimpl"))
    assert not diff, diff


@pytest.mark.root
@pytest.mark.debian("ctr", "containerd", "busybox")
@each_chapter
def test_refimpl_says_what_containerd_says_of_a_busybox_image(
    chapter: Chapter, base: Path, archives: images.Images
) -> None:
    with daemons.running(daemons.containerd(base / "real")) as daemon:
        expected = record(daemon, chapter, archives)
    with daemons.running(daemons.refimpl(base / "fake")) as daemon:
        actual = record(daemon, chapter, archives)
    diff = differences(expected, actual, ("containerd", "refimpl"))
    assert not diff, diff


@pytest.mark.root
@pytest.mark.debian("ctr", "containerd")
@each_chapter
def test_containerd_still_says_what_was_recorded(chapter: Chapter, base: Path, fixed_archives: images.Images) -> None:
    """Also proves the normaliser: two runs of one daemon have nothing else in which they differ."""
    _skip_unless_recorded_here()
    with daemons.running(daemons.containerd(base)) as daemon:
        actual = record(daemon, chapter, fixed_archives)
    diff = differences(read_golden(chapter), actual, ("recorded", "now"))
    assert not diff, diff


@pytest.mark.root
@pytest.mark.debian("ctr")
@pytest.mark.parametrize("chapter", [IMAGES, SNAPSHOTS, DIFF, EVENTS], ids=lambda chapter: chapter.name)
def test_refimpl_on_fakes_needs_no_right_at_all(
    chapter: Chapter, base: Path, fixed_archives: images.Images, plain_user: int
) -> None:
    """The daemon and ``ctr`` run as nobody, with no configuration file: exactly the command that the README shows."""
    _skip_unless_recorded_here()
    with daemons.running(daemons.refimpl(base, plain_user, config=False)) as daemon:
        assert daemon.socket.stat().st_uid == plain_user
        actual = record(daemon, chapter, fixed_archives)
    diff = differences(read_golden(chapter), actual, ("containerd", "refimpl as nobody"))
    assert not diff, diff


def test_a_golden_belongs_to_each_chapter_and_to_its_steps() -> None:
    for chapter in CHAPTERS:
        read_golden(chapter)
    recorded = {path.stem for path in RECORDED_WITH.parent.glob("*.txt")}
    assert recorded == {chapter.name for chapter in CHAPTERS}
