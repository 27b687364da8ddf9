"""Layer archives, against their clauses and against the real containerd."""
