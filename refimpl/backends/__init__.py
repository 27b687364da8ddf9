"""The backends: the leaves that touch the world, once really and once in memory."""
