"""The acceptance test: a script of ``ctr`` commands, played to containerd and refimpl; their answers are compared."""
