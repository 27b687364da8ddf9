"""``python -m tests.acceptance``: play the script to containerd and refimpl and print a diff per step.

    python -m tests.acceptance                       both daemons, all chapters
    python -m tests.acceptance images events         only these chapters
    python -m tests.acceptance --golden              refimpl against the recorded outputs (no root)
    python -m tests.acceptance --record              record the outputs of the real daemon again (root)
    python -m tests.acceptance --twice               the real daemon against itself: is the normaliser good? (root)

Exit status: 0 no difference, 1 some, 2 something that is needed is missing.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.acceptance import daemons, images
from tests.acceptance.script import CHAPTERS, Chapter
from tests.acceptance.transcript import RECORDED_WITH, Transcript, differences, golden_path, read_golden, record

Maker = Callable[[Path], daemons.Daemon]


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; see the module's docstring."""
    options = _parse(arguments)
    needed = daemons.lacks_ctr() or ("" if options.golden else daemons.lacks_containerd())
    if needed:
        _say(needed)
        return 2
    chapters = [chapter for chapter in CHAPTERS if not options.chapters or chapter.name in options.chapters]
    with tempfile.TemporaryDirectory(prefix="acceptance-") as name:
        return _run(options, chapters, Path(name))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.acceptance", description=__doc__.partition("\n")[0])
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="of " + ", ".join(c.name for c in CHAPTERS))
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--golden", action="store_true", help="compare refimpl with the recorded outputs")
    way.add_argument("--record", action="store_true", help="write the recorded outputs from the installed containerd")
    way.add_argument("--twice", action="store_true", help="compare containerd with itself")
    parser.add_argument("--show", action="store_true", help="print the whole transcript of the second daemon")
    options = parser.parse_args(arguments)
    unknown = set(options.chapters) - {chapter.name for chapter in CHAPTERS}
    if unknown:
        parser.error(f"no such chapter: {', '.join(sorted(unknown))}")
    return options


def _run(options: argparse.Namespace, chapters: list[Chapter], base: Path) -> int:
    base.chmod(0o755)  # the archives are read by whoever runs ctr
    # What is recorded must not depend on this machine's busybox.
    fixed = options.record or options.golden
    archives = images.build(base, images.stand_in_program() if fixed else images.program())
    number = 0

    def play(chapter: Chapter, maker: Maker) -> Transcript:
        nonlocal number
        number += 1
        with daemons.running(maker(base / str(number))) as daemon:
            return record(daemon, chapter, archives)

    if options.record:
        RECORDED_WITH.write_text(daemons.ctr_version() + "\n", encoding="utf-8")
    worst = 0
    for chapter in chapters:
        if options.record:
            golden_path(chapter.name).write_text(str(play(chapter, daemons.containerd)), encoding="utf-8")
            _say(f"{chapter.name}: recorded")
            continue
        expected = read_golden(chapter) if options.golden else play(chapter, daemons.containerd)
        second = daemons.containerd if options.twice else daemons.refimpl
        actual = play(chapter, second)
        diff = differences(expected, actual, ("containerd", "containerd again" if options.twice else "refimpl"))
        if options.show:
            _say(str(actual))
        _say(diff or f"{chapter.name}: {len(chapter.steps)} steps, no difference")
        worst = max(worst, 1 if diff else 0)
    return worst


def _say(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
