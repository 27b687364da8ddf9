"""Tests of refimpl.backends.real.cgroups."""
