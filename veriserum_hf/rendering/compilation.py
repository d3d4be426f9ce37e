"""Functions that numba compiles, and keeps compiled for the next process where it can."""

import logging
import multiprocessing
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import numba

_log = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def compiled(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Compile a function on its first call, or load it from numba's cache.

    Without a folder for that cache, as in a read-only installation and home, or with a cache that is damaged or on a
    full disk, each process compiles again.
    """
    njit: Callable[..., Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]] = numba.njit
    without_cache = njit()(function)
    try:
        cached = njit(cache=True)(function)
    except RuntimeError:  # no folder
        _warn_once()
        return without_cache

    @wraps(function)
    def call(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        try:
            return cached(*arguments, **options)
        except Exception:  # noqa: BLE001 - a damaged cache fails in any way; the function's own error is raised again
            return without_cache(*arguments, **options)

    return call


@cache
def _warn_once() -> None:
    if multiprocessing.parent_process() is None:
        _log.warning(
            "numba has no folder that it may write to, so it compiles in every process, for some seconds; set "
            "NUMBA_CACHE_DIR to one"
        )
