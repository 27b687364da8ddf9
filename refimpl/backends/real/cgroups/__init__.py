"""Control groups of tasks, as their files say: ``mounted`` finds them, ``v1`` and ``v2`` read them, ``oom`` watches."""
