"""Restart monitor, what came after 1.6: policies and the count (RST-024 to 031).

A monitor that names no policies does not know these labels; then the checks are skipped.
"""

from __future__ import annotations

import pytest

from conformance import clause
from conformance.suites._boxes import daemon, label, running, until
from conformance.suites._events import opened
from conformance.suites._tasks import LASTING, PATIENCE
from conformance.suites.restart import every, is_next, pass_over
from refimpl.contract.runtimes import Status

__all__ = ["daemon"]

FAILING = ("sh", "-c", "exit 5")

COUNT = "containerd.io/restart.count"


@pytest.fixture
def policed(daemon):
    """Boxes of a daemon whose monitor knows policies and hardly pauses."""
    found = daemon(every(0.1))
    if not is_next(found):
        pytest.skip("the monitor knows no policies: it is that of 1.6")
    return found


def over(boxes, *arguments, **labels):
    """A box whose task, started by a client, has ended; labelled afterwards."""
    box = boxes.run(*arguments)
    box.wait()
    box.first = box.get().pid
    label(box, status="running", **{key.replace("_", "-"): value for key, value in labels.items()})
    return box


def count(box):
    """The label of that name; None without."""
    return box.containers.get(box.ctx, box.id).labels.get(COUNT)


def starts(told, box):
    """How many tasks of a box were started since the ear began to listen."""
    return sum(each.topic == "/tasks/start" and opened(each).container_id == box.id for each in told())


def restarted(told, *boxes, times=2):
    """Wait until every box was started so many times."""
    until(lambda: min(starts(told, box) for box in boxes) >= times, f"{times} starts of each", 3 * PATIENCE)


def untouched(*boxes):
    """Whether the first tasks of these boxes are still there, stopped."""
    return [(box.status(), box.get().pid) for box in boxes] == [(Status.STOPPED, box.first) for box in boxes]


@clause("RST-024")
def test_always_means_after_every_end(policed):
    """Rejects: success taken for the last end, or a limit where there is none."""
    told = policed.listen()
    made = [over(policed, *FAILING), over(policed, *FAILING, policy=""), over(policed, *FAILING, policy="always")]
    made.append(over(policed, "true", policy="always"))
    limited = over(policed, *FAILING, policy="always:3")

    restarted(told, *made, times=3)

    assert untouched(limited)


@clause("RST-025")
def test_no_means_never(policed):
    """Rejects: a first start that does not count as a restart."""
    ended_one = over(policed, *FAILING, policy="no")
    without = policed.box(*LASTING, labels={"status": "running", "policy": "no"})

    pass_over(policed)

    assert untouched(ended_one)
    assert without.gone()


@clause("RST-026")
def test_on_failure_means_after_a_failure(policed):
    """Rejects: a task that was never there, and counts as one that failed."""
    told = policed.listen()
    failed, done = over(policed, *FAILING, policy="on-failure"), over(policed, "true", policy="on-failure")
    without = policed.box(*LASTING, labels={"status": "running", "policy": "on-failure"})

    restarted(told, failed)
    pass_over(policed)

    assert untouched(done)
    assert without.gone()


@clause("RST-027")
def test_failures_may_have_a_limit(policed):
    """Rejects: one restart too many, a count that begins anew, or a limit that nobody can read taken for none."""
    told = policed.listen()
    twice = over(policed, *FAILING, policy="on-failure:2")
    once = over(policed, *FAILING, policy="on-failure:3", count="2")
    unlimited = over(policed, *FAILING, policy="on-failure:0")
    unreadable = over(policed, *FAILING, policy="on-failure:x")

    restarted(told, unlimited, times=4)
    restarted(told, twice)
    restarted(told, once, times=1)
    pass_over(policed)

    # A client started each of them once before.
    assert (starts(told, twice), count(twice), twice.status()) == (3, "2", Status.STOPPED)
    assert (starts(told, once), count(once), once.status()) == (2, "3", Status.STOPPED)
    assert untouched(unreadable)


@clause("RST-028")
def test_unless_stopped_means_what_a_client_says(policed):
    """Rejects: a daemon that takes a signal for the user's wish."""
    told = policed.listen()
    plain = over(policed, *FAILING, policy="unless-stopped")
    denied = over(policed, *FAILING, policy="unless-stopped", explicitly_stopped="false")
    stopped = over(policed, *FAILING, policy="unless-stopped", explicitly_stopped="true")
    killed = policed.box(*LASTING, labels={"status": "running", "policy": "unless-stopped"})
    pid = running(killed)

    killed.kill()
    running(killed, instead_of=pid)
    restarted(told, plain, denied, times=3)

    assert untouched(stopped)
    assert "containerd.io/restart.explicitly-stopped" not in killed.containers.get(killed.ctx, killed.id).labels


@clause("RST-029")
def test_a_policy_that_nobody_knows_starts_nothing(policed):
    """Rejects: what cannot be read taken for the default."""
    made = [
        over(policed, *FAILING, policy=policy) for policy in ("bogus", "always:3", "on-failure:x", "Always", "no:1")
    ]

    pass_over(policed)

    assert untouched(*made)


@clause("RST-030")
def test_every_start_is_counted_before_it(policed):
    """Rejects: a count of those starts that succeeded, or one that begins with the second."""
    told = policed.listen()
    healthy = policed.box(*LASTING, labels={"status": "running"})
    failing = over(policed, *FAILING, count="junk")
    broken = policed.box("/no/such", labels={"status": "running", "policy": "always"})

    running(healthy)
    restarted(told, failing, times=3)
    until(lambda: int(count(broken) or 0) >= 2, "a count of starts that did not succeed")
    pass_over(policed)

    assert count(healthy) == "1"
    assert int(count(failing)) >= starts(told, failing) - 1, "a client started it once"
    changes = [opened(each) for each in told() if each.topic == "/containers/update"]
    assert {change.id for change in changes} >= {healthy.id, failing.id, broken.id}


@clause("RST-031")
def test_a_count_that_cannot_be_read_keeps_failures_from_being_restarted(policed):
    """Rejects: a monitor that dies of it."""
    junk = over(policed, *FAILING, policy="on-failure:3", count="junk")

    pass_over(policed)

    assert untouched(junk)
    assert count(junk) == "junk"
