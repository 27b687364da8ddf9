"""``python -m benchmarks.profiled FILE ARGUMENT...``: the refimpl command, with a profile of every thread it starts."""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading

from refimpl.cli import main

_profiles: list[cProfile.Profile] = []


def _begin(*_: object) -> None:
    """Give the thread that calls this a profile of its own: one cannot be shared."""
    profile = cProfile.Profile()
    _profiles.append(profile)
    profile.enable()


if __name__ == "__main__":
    file = sys.argv.pop(1)
    threading.setprofile(_begin)
    try:
        main()
    finally:
        threading.setprofile(None)
        found = pstats.Stats()
        for each in _profiles:
            each.create_stats()
            if each.stats:
                found.add(each)
        found.dump_stats(file)
