"""The version, in one place: the build reads it, and the command line shows it."""

__version__ = "0.1.0"
