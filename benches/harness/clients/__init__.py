"""Load generators for what no tool of Debian's speaks, each a program of its own.

What they share: they print `ready`, wait for a line, do their work, print what came of it as JSON, and wait for the end of
their input.
"""
