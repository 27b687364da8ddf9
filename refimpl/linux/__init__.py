"""System calls of Linux that Python does not wrap, and trees of files on the real disk. Imports contract only."""
