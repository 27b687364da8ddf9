"""A pool of threads that are made when they are needed and go when they are not.

The daemon may have to hold a thousand waiting calls (``Subscribe``, ``Wait``), and mostly holds none. The standard
library's pool never lets a thread go, and waits for each at the end of the process; a handler that hangs must not
keep the daemon from stopping.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LazyThreads(Executor):
    """An executor.

    Args:
        limit: most threads at a time; further calls wait in order.
        idle_seconds: how long a thread waits for work before it ends.
        name: of the threads, for stack dumps.
    """

    def __init__(self, limit: int, idle_seconds: float = 10.0, name: str = "call") -> None:
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._name = name
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._condition = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._made = 0
        self._closed = False

    @property
    def threads(self) -> int:
        """Threads there are now."""
        with self._condition:
            return len(self._threads)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called.

        Raises:
            RuntimeError: the pool was shut down.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._work.append((future, lambda: fn(*args, **kwargs)))
            if self._idle >= len(self._work):
                self._condition.notify()
            elif len(self._threads) < self._limit:
                self._made += 1
                thread = threading.Thread(target=self._run, name=f"{self._name}-{self._made}", daemon=True)
                self._threads.add(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; threads end after what they are doing. Nobody is waited for, whatever ``wait`` says."""
        with self._condition:
            self._closed = True
            while cancel_futures and self._work:
                self._work.popleft()[0].cancel()
            self._condition.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the end of all threads after ``shutdown``, at most ``seconds``; whether they ended."""
        end = time.monotonic() + seconds
        with self._condition:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in threads)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._idle += 1
                given = self._condition.wait_for(lambda: bool(self._work) or self._closed, self._idle_seconds)
                self._idle -= 1
                if not given or not self._work:
                    self._threads.discard(threading.current_thread())
                    return
                future, call = self._work.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001  # it belongs to whoever holds the future
                    future.set_exception(error)
            # Not kept alive while this thread waits: a call may hold a megabyte of message.
            del future, call
