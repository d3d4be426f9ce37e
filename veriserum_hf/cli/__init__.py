"""``veriserum ...``: a file a command; arguments, progress and exit statuses, while the work is done elsewhere."""

from veriserum_hf.cli.app import main

__all__ = ["main"]
