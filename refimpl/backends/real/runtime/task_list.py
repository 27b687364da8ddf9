"""The tasks of one runtime, of all namespaces: what both runtimes keep in memory, and nothing on disk."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar

from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound


class Listed(Protocol):
    """What a list has to know of a task."""

    @property
    def namespace(self) -> str:
        """Of its container."""
        ...

    @property
    def id(self) -> str:
        """Of its container."""
        ...


T = TypeVar("T", bound=Listed)


class TaskList(Generic[T]):
    """Tasks by namespace and id, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, str], T] = {}

    def add(self, task: T) -> None:
        """List a task, in the place of another one with its name."""
        with self._lock:
            self._tasks[task.namespace, task.id] = task

    def forget(self, task: T) -> bool:
        """Take this very task off the list; False if it is not there, or another one has its name."""
        with self._lock:
            if self._tasks.get((task.namespace, task.id)) is not task:
                return False
            del self._tasks[task.namespace, task.id]
            return True

    def peek(self, namespace: str, id: str) -> T | None:
        """The task of that name; None if there is none."""
        with self._lock:
            return self._tasks.get((namespace, id))

    def find(self, ctx: CallContext, id: str) -> T:
        """The task of that name in the caller's namespace.

        Raises:
            NotFound: there is none.
        """
        task = self.peek(ctx.require_namespace(), id)
        if task is None:
            raise NotFound(f"task {id} not found", bare=True)
        return task

    def of(self, namespace: str) -> list[T]:
        """Those of a namespace."""
        return [task for task in self.all() if task.namespace == namespace]

    def all(self) -> list[T]:
        """Those of all namespaces, in the order in which they were listed."""
        with self._lock:
            return [*self._tasks.values()]
