"""``containerd-shim-refimpl-v1``: a shim of its own process, which any containerd 1.6 can run.

A shim stands between the daemon and the containers of one group, so that the daemon can go away and come back. The
daemon runs the command ``start``, which makes the serving process and answers with its address (``start``, ``boot``,
``serve``); it speaks containerd.task.v2.Task over ttrpc with it (``service``), and runs the command ``delete`` when it
has lost it (``delete``). Containers are made by an OCI runtime, ``runc`` or ``crun``, as commands (``oci``).

A process that serves takes 21 MB of memory, of which 12.6 MB are its own (containerd's shim, in Go: 13 MB and 2.5 MB),
``start`` answers after about 26 ms and the process after 81 ms, on a virtual machine of two cores. Half of that memory
and a third of that time are protobuf. Containers of a group share one process.

Every container costs one such process, so a module here imports what it needs and no more: the two commands load no
protobuf before they have to, and metrics are loaded when somebody asks for them. Clauses SHM-012 to SHM-081, TSK-016
to TSK-086. Imports contract, api, ttrpc and linux only.
"""
