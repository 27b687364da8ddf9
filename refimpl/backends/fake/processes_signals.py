"""What a signal does to a fake process: the kernel's table of default actions, and the process's own choices.

Clauses TSK-036 to TSK-041.
"""

from __future__ import annotations

import signal
from enum import Enum

LAST = 64
"""The largest signal number that the kernel knows (TSK-038)."""

_IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
_STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_UNTAMED = {signal.SIGKILL, signal.SIGSTOP}


class Action(Enum):
    """What happens."""

    KILL = "kill"
    STOP = "stop"
    IGNORE = "ignore"
    CATCH = "catch"


class SignalTable:
    """The choices of one process. Signals of which nothing is said have their default action."""

    def __init__(self) -> None:
        self._chosen: dict[int, Action] = {}

    def catch(self, number: int) -> None:
        """Hand the signal to the program."""
        self._chosen[number] = Action.CATCH

    def ignore(self, number: int) -> None:
        """Drop the signal."""
        self._chosen[number] = Action.IGNORE

    def default(self, number: int) -> None:
        """Take the choice back."""
        self._chosen.pop(number, None)

    def inherited(self) -> SignalTable:
        """What is left of the choices in another program: ignored signals stay ignored."""
        table = SignalTable()
        table._chosen = {n: action for n, action in self._chosen.items() if action is Action.IGNORE}
        return table

    def action(self, number: int, *, init: bool, inside: bool) -> Action:
        """What a signal does.

        Args:
            init: to the first process of a pid namespace, which no default action touches.
            inside: it comes from the same namespace; then init is spared even by SIGKILL and SIGSTOP.
        """
        if number in _UNTAMED:
            if init and inside:
                return Action.IGNORE
            return Action.KILL if number == signal.SIGKILL else Action.STOP
        chosen = self._chosen.get(number)
        if chosen is not None:
            return chosen
        if init or number in _IGNORED:
            return Action.IGNORE
        return Action.STOP if number in _STOPPING else Action.KILL


def number_of(name: str) -> int | None:
    """The number of a signal by name or number, with or without ``SIG``; None for no signal."""
    if name.isdecimal():
        return int(name) if int(name) <= LAST else None
    known = getattr(signal, "SIG" + name.upper().removeprefix("SIG"), None)
    return int(known) if isinstance(known, signal.Signals) else None
