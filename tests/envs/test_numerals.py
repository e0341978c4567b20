from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs.numerals import parse_number, same_number

integers = st.integers(-(10**12), 10**12)
places = st.integers(0, 6)


@st.composite
def spelled_decimals(draw):
    """A number with finitely many decimal places, and one of its spellings."""
    digits = draw(places)
    value = Decimal(draw(integers)).scaleb(-digits)
    text = f"{abs(value):{draw(st.sampled_from(['', ',']))}.{digits + draw(st.integers(0, 2))}f}"
    text = draw(st.sampled_from([text, text.replace(",", "{,}"), text.replace(",", "\\,")]))
    if draw(st.booleans()) and digits == 0 and "." not in text:
        text += "."
    currency = draw(st.sampled_from(["", "$", "\\$", "€", "$ ", "USD "]))
    sign = "-" if value < 0 else draw(st.sampled_from(["", "+"]))
    text = draw(st.sampled_from([sign + currency + text, sign + text + "\\$", sign + text]))
    unit = draw(
        st.sampled_from(
            [
                "",
                " eggs",
                " dollars per day",
                "%",
                "\\%",
                "\\text{ cm}",
                "°",
                "^\\circ",
                " m^2",
                "\\text{ m}^{2}",
                " miles/hour",
                " percent.",
                "\\ \\mathrm{kg}",
                " cents",
                "kg",
            ]
        )
    )
    if text.endswith(".") and unit:
        text = text[:-1]
    text += unit
    wrap = draw(st.sampled_from(["{}", " {} ", "${}$", "\\({}\\)", "\\text{{{}}}", "x = {}"]))
    return value, text if wrap == "\\text{{{}}}" and "{" in text else wrap.format(text)


@given(spelled=spelled_decimals())
def test_a_number_is_read_from_all_its_spellings(spelled):
    value, text = spelled
    assert parse_number(text) == Fraction(value)


@given(
    top=st.integers(0, 10**6),
    bottom=st.integers(1, 10**6),
    form=st.sampled_from(
        [
            "{}/{}",
            "{} / {}",
            "\\frac{{{}}}{{{}}}",
            "\\dfrac{{{}}} {{{}}}",
            "\\tfrac{{ {} }}{{ {} }}",
        ]
    ),
    sign=st.sampled_from(["", "-", "- "]),
)
def test_a_fraction_is_read_exactly(top, bottom, form, sign):
    value = Fraction(top, bottom)
    assert parse_number(sign + form.format(top, bottom)) == (-value if sign else value)


@given(whole=st.integers(1, 999), bottom=st.integers(2, 99), data=st.data())
def test_a_mixed_number_is_the_sum_of_its_parts(whole, bottom, data):
    top = data.draw(st.integers(1, bottom - 1))
    value = whole + Fraction(top, bottom)
    for text in (f"{whole} {top}/{bottom}", f"{whole}\\frac{{{top}}}{{{bottom}}}"):
        assert parse_number(text) == value
        assert parse_number(f"-{text}") == -value


@given(text=st.text(st.sampled_from("0123456789.,-+ /\\{}$%eE^x!cm°=:t"), max_size=12))
def test_whatever_is_read_is_one_finite_number(text):
    value = parse_number(text)
    assert value is None or isinstance(value, Fraction)


@given(text=st.text(st.characters()))
def test_any_text_can_be_given(text):
    assert parse_number(text) is None or any(character in "0123456789" for character in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eggs",
        "--5",
        "2+3",
        "17 or 18",
        "17 and 18",
        "17, 18",
        "17 18",
        "1,23",
        "1,234,56",
        "1234,567",
        "12:30",
        "18x",
        "18y",
        "5k",
        "3/0",
        "\\frac{1}{0}",
        "18^2",
        "18!",
        "3\\pi",
        "3 pi",
        "18 and a half",
        "18 or more",
        "1/2/3",
        "١٨",
        "not 18",
        "minus 18",
        "1.2.3",
        "3\\frac{5}{2}",
        "\\infty",
        "18 = 19",
        "2e",
        "1e9999",
        "9" * 300,
    ],
)
def test_what_is_not_one_number_is_not_read(text):
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5 million", 5000000),
        ("2.5 thousand dollars", 2500),
        ("5 dozen", 5),
        ("1e3", 1000),
        ("−5", -5),
        (".5", Fraction(1, 2)),
        ("answer: 18", 18),
        ("\\boxed{18}", 18),
        ("1 234 567", 1234567),
        ("18 dollars a day", 18),
        ("\\frac34", Fraction(3, 4)),
        ("$18", 18),
        ("-$5", -5),
        ("\\textbf{\\text{18}}", 18),
        ("{18}", 18),
        ("3/4 cup", 0.75),
    ],
)
def test_spellings_that_models_use(text, value):
    assert parse_number(text) == value


decimals = st.builds(lambda n, d: Fraction(n, 10**d), integers, places)


@given(left=decimals, right=decimals)
def test_two_decimals_are_the_same_only_if_they_are_equal(left, right):
    assert same_number(left, right) == (left == right)


@given(value=st.fractions(-1000, 1000), digits=st.integers(0, 12))
def test_a_number_without_decimal_form_may_be_rounded_to_six_places_not_fewer(value, digits):
    rounded = round(value, digits)
    same = same_number(rounded, value)
    assert same == same_number(value, rounded)
    if digits >= 6 and value.denominator % 3 == 0:
        assert same
    if abs(rounded - value) > Fraction(1, 10**6):
        assert not same
