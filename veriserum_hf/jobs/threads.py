"""OpenCV in a process that is one of several."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def one_quiet_thread() -> Iterator[None]:
    """Keep OpenCV to one thread and quiet: work is shared out by process, what is wrong is told elsewhere."""
    threads, level = cv2.getNumThreads(), cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        cv2.utils.logging.setLogLevel(level)
