"""Ways to reach what is judged. ``parse`` turns the word on the command line into a ``Subject``."""
