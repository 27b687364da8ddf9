"""Tests of refimpl.backends.real.snapshotters: on directories of the machine they run on."""
