"""Runtimes on this machine: shims as processes, spoken to over ttrpc, and bundles as directories.

::

    runtime_v2 (registration)            runtime_v1 (registration)
      manager   tasks of all namespaces    linux_runtime    the same for the first runtime
      loading   those of an earlier life   linux_loading
      task      one of them                linux_task
      shim      its process                linux_shim
      binaries  where shims are found
      commands  start and delete
               bundle, program, watcher, telling, translation: both of them
"""
