"""Reports: the same run for a person at a terminal, for a program, for a CI server and for a reader of a web page."""
