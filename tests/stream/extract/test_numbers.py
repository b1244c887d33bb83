"""What stands for a number, and what only looks like one."""

from __future__ import annotations

import base64
import math
import string
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.stream.extract.numbers import FAULT_HINTS, FAULTS, NotANumberError, number_of


def fault_of(found: object) -> str:
    with pytest.raises(NotANumberError) as error:
        number_of(found)
    return error.value.fault


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("81.4 °C", 81.4), ("81.4°C", 81.4), ("81,4 °C", 81.4), ("80 C", 80.0), ("293 K", 293.0), ("55 %", 55.0), ("55%RH", 55.0)),
        *(("12 bar", 12.0), ("1.5e3 mbar", 1500.0), ("-3 dBm", -3.0), ("60dB", 60.0), ("230V", 230.0), ("1.2 mm/s", 1.2)),
        *(("9.81 m/s²", 9.81), ("9.81 m/s^2", 9.81), ("3 m3/h", 3.0), ("3 Nm³/h", 3.0), ("7 kN·m", 7.0), ("1500 1/min", 1500.0)),
        *(("1500 min-1", 1500.0), ("1500 rpm", 1500.0), ("12 µm", 12.0), ("12 μm", 12.0), ("5 kWh", 5.0), ("7 pH", 7.0)),
        *(("1,234,567", 1234567.0), ("12,345.6", 12345.6), ("0,345", 0.345), ("12,34", 12.34), ("1234,567", 1234.567)),
    ],
)  # fmt: skip
def test_a_number_with_a_unit_or_with_commas_is_that_number(text: str, number: float) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    "text",
    ["0xFG", "0x", "00AB", "00A", "5C", "00db", "10k", "1.2M", "12AM", "12 pm", "5f3a", "3 foo", "7 m/foo", "1/foo", "1.2.3 m", "5 /s", "1 m//s"],
)  # fmt: skip
def test_a_number_before_other_letters_is_a_text(text: str) -> None:
    assert fault_of(text) == "text"


def test_a_hexadecimal_number_is_refused_as_one() -> None:
    """Whether 0xFFFF is -1 or 65,535 is not in it."""
    for text in ("0x1A", "0XFFFF", "-0x1", "16#7F", " 0x00 "):
        assert fault_of(text) == "hex"
    assert number_of("0x1A", {"0x1A": 2.0}) == 2.0


def test_a_comma_before_three_digits_alone_is_ambiguous() -> None:
    for text in ("12,345", "-1,000", "999,999", "12,345 bar"):
        assert fault_of(text) == "ambiguous"


def test_a_decimal_that_is_no_number_is_missing() -> None:
    for text in ("sNaN", "NaN", "-sNaN"):
        assert math.isnan(number_of(Decimal(text)))


@given(st.binary(min_size=1, max_size=16).filter(lambda raw: len(raw) % 3))
def test_padded_base64_is_no_number(raw: bytes) -> None:
    assert fault_of(base64.b64encode(raw).decode()) == "base64"


@given(st.text(string.hexdigits, min_size=1, max_size=12))
def test_digits_of_hexadecimal_numbers_are_no_number_unless_they_are_decimal(text: str) -> None:
    try:
        number = number_of(text)
    except NotANumberError:
        return
    assert number == float(text) or math.isinf(float(text))


def test_each_fault_has_a_hint() -> None:
    assert set(FAULT_HINTS) == set(FAULTS)
