"""The version of this package, also that of every file it writes."""

__version__ = "0.2.0"
