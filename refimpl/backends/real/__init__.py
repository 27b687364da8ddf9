"""Real backends: what touches Linux. Everything above is shared with the fakes."""
