"""Control groups of tasks of the first runtime: ``mounted`` finds them, ``oom`` watches; ``linux`` reads them."""
