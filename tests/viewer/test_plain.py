import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.viewer.plain import encode, flat, plain, significant

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=5,
)


@given(value=values)
@settings(max_examples=50)
def test_any_value_is_json_that_a_browser_reads(value):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(encode(plain(value)), parse_constant=refuse)


@given(value=st.floats(1e-11, 1e12) | st.floats(-1e12, -1e-11), digits=st.integers(1, 9))
def test_rounding_keeps_the_digits_that_were_asked_for_and_no_more(value, digits):
    rounded = float(significant(np.array([value]), digits)[0])
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    assert abs(rounded - value) <= max(0.5001 * unit, 1e-15, 0.5001 if unit < 1 else 0.0)
    if 1e-4 < abs(value) < 10.0**digits:  # `repr` writes smaller ones with an exponent
        assert len(repr(abs(rounded)).replace(".", "").strip("0")) <= digits
        assert abs(rounded - value) <= 0.5001 * unit


def test_what_has_no_digits_stays():
    found = significant(np.array([0.0, np.nan, np.inf, -np.inf]), 4)
    np.testing.assert_array_equal(found, [0.0, np.nan, np.inf, -np.inf])


def test_a_tree_becomes_one_level():
    tree = {"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}
    assert flat(tree) == {"a.b.c": 1, "a.d": {}, "e": [1, {"f": 2}]}
