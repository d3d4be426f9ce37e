"""Text of messages."""

from collections.abc import Iterable


def listed(items: Iterable[object], most: int = 5) -> str:
    """Join items as "1, 2, 3, ... (12 in all)"."""
    every = [str(item) for item in items]
    return ", ".join(every) if len(every) <= most else f"{', '.join(every[:most])}, ... ({len(every)} in all)"
