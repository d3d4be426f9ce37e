"""YAML of settings: what is written is what is read, or refused."""

import math

import pytest
import yaml

from veriserum_hf.core import load_plain_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-7", -7),
        ("1e-05", 1e-05),
        ("-1.5E3", -1500.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("no", False),
        ("null", None),
        ("-", [None]),
        ("e5", "e5"),
    ],
)
def test_values(text, value):
    found = load_plain_yaml(text)
    assert found == value and type(found) is type(value)
    assert load_plain_yaml(f"a: [{text}]") == {"a": [value]} or text == "-"


def test_what_is_not_finite_is_a_number():
    assert load_plain_yaml("-.inf") == -math.inf and math.isnan(load_plain_yaml(".nan"))


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b: {c: 1, 'c': 1}", '{"a": 1, "a": 1}'])
def test_a_key_that_occurs_twice_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="occurs twice, expected it once"):
        load_plain_yaml(text)
