"""Functions are compiled also where nothing can be kept of it."""

import logging

import numba
import pytest

from veriserum_hf.rendering import compilation as module
from veriserum_hf.rendering.compilation import compiled


def double(value):
    return 2 * value


def test_without_a_folder_for_a_cache_it_compiles_and_says_so_once(monkeypatch, caplog):
    njit = numba.njit

    def refusing(*arguments, cache=False):
        def decorate(function):
            if cache:
                raise RuntimeError("cannot cache function 'double': no locator available for file 'a.py'")
            return njit(function)

        return decorate

    monkeypatch.setattr(numba, "njit", refusing)
    module._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert compiled(double)(3) == compiled(double)(3) == 6
    (record,) = caplog.records
    assert "set NUMBA_CACHE_DIR to one" in record.message


@pytest.mark.parametrize("error", [OSError(28, "No space left"), EOFError("Ran out of input"), AttributeError("x")])
def test_a_cache_that_is_full_or_damaged_is_not_used(monkeypatch, error):
    njit = numba.njit

    def failing(*arguments, cache=False):
        def load(*arguments):
            raise error

        return (lambda function: load) if cache else njit

    monkeypatch.setattr(numba, "njit", failing)
    assert compiled(double)(3) == 6
