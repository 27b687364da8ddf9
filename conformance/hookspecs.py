"""Hooks of the suite, for authors of plugins: implement them in a ``conftest.py`` or a pytest plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conformance.subjects.base import Subject


@pytest.hookspec
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
