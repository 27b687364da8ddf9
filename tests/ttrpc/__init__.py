"""Tests of refimpl.ttrpc."""
