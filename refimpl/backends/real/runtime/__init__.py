"""Runtimes on this machine: shims as processes, spoken to over ttrpc, and bundles as directories.

::

    runtime_v2 (registration)             runtime_v1 (registration)
      manager   tasks of all namespaces     linux_runtime   the same, with those of an earlier life
      loading   those of an earlier life
      task      one of them                 linux_task
      shim      its connection, its end     linux_shim      with its process
      binaries  where shims are found
      commands  start and delete
      stuck     processes that do not end
    both: task_list, bundle, program, watcher, telling, translation
"""
