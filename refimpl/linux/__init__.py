"""System calls that Python does not wrap, trees of files on the disk, and control groups. Imports contract only."""
