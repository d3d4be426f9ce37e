"""Numbers in the text files of other programs."""

import math

import pytest
from hypothesis import given, strategies as st

from veriserum_hf.core import joined_numbers, numbers_of

numbers = st.lists(st.floats(allow_infinity=False, allow_nan=False), min_size=1, max_size=5)


@given(numbers, st.sampled_from([",", ", ", ";", " ", "\t", " ,\t"]))
def test_a_line_is_read_back_whatever_separates_its_numbers(values, separator):
    assert numbers_of(joined_numbers(values, separator)) == values
    assert numbers_of(f" {joined_numbers(values, separator)} ,\t") == values
    assert "-0.0" not in joined_numbers([-0.0, 0.0])


def test_numbers_of_other_languages():
    assert numbers_of("1.5d3 .5 +2. 1E-2") == [1500, 0.5, 2, 0.01]
    assert all(map(math.isnan, numbers_of("nan,NaN,-nan(ind),NAN")))


@pytest.mark.parametrize("line", ["", "  ", ",", "1,,2", "1_0", "\u0661", "0x10", "inf", "1e", "--1", "1.2.3", "1,x"])
def test_anything_else_is_named(line):
    with pytest.raises(ValueError, match=r"is not a number|a number is missing"):
        numbers_of(line)
