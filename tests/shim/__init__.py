"""Tests of the shim that need no root: its parts, its commands, and it as a whole on a runtime without isolation."""
