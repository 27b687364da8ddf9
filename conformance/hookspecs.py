"""The hook of the suite for authors of plugins: write it in a ``conftest.py`` or a pytest plugin.

pytest itself takes only functions called ``pytest_...`` for hooks, so this one is looked up by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conformance.subjects.base import Subject


def conformance_subjects(config: pytest.Config) -> Sequence[Subject]:
    """Contribute subjects.

    Called when checks are collected. Every answer counts. Without ``--subject`` on the command line all of them are
    judged; with it, those that are named.

    Args:
        config: the run, with its options.

    Returns:
        Subjects, mostly ``conformance.author.PluginSubject`` objects; not opened yet.
    """
    raise NotImplementedError


def contributed_subjects(config: pytest.Config) -> list[Subject]:
    """What all implementations of ``conformance_subjects`` answer; each is asked once in a run."""
    if SUBJECTS not in config.stash:
        implementations = [
            getattr(plugin, "conformance_subjects", None) for plugin in config.pluginmanager.get_plugins()
        ]
        answers = [implementation(config=config) for implementation in implementations if callable(implementation)]
        config.stash[SUBJECTS] = [subject for answer in answers for subject in answer]
    return config.stash[SUBJECTS]


SUBJECTS = pytest.StashKey[list["Subject"]]()
