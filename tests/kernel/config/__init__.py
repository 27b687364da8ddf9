"""Tests of refimpl.kernel.config."""
