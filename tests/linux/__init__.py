"""Tests of ``refimpl.linux``: each asks the kernel of the machine it runs on."""
