"""``veriserum ...``: arguments, progress and exit statuses, one file for each command; other rooms do the work."""

from veriserum_hf.cli.app import main

__all__ = ["main"]
