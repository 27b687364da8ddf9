"""The shim harness: what plays containerd for one shim binary.

``bundle`` makes bundles and root file systems, ``command`` runs the binary's commands, ``events`` receives what it
publishes, ``task`` calls it, ``raw`` speaks single frames, and ``harness`` ties them together for one check and leaves
nothing behind. ``stub`` is a small shim in Python: it shows that the checks can fail.
"""
