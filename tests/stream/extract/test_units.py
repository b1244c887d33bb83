"""Values that come in another unit than their sensor's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.presets import CUSTOM, mapping_of
from daemon.config.sections import SensorSection
from daemon.domain import Format, Reading, Record, StreamSpec
from daemon.stream.decoding import Decoder
from daemon.stream.extract.units import conversion


@pytest.mark.parametrize(
    ("number", "given_unit", "wanted", "expected"),
    [
        (212, "°F", "degC", 100),
        (212, "degF", "°C", 100),
        (0, "CEL", "K", 273.15),
        (-40, "fahrenheit", "Celsius", -40),
        (1, "bar", "kPa", 100),
        (14.503773773, "psi", "bar", 1),
        (1013.25, "mbar", "hPa", 1013.25),
        (2.5, "kW", "W", 2500),
        (1, "MW", "kW", 1000),
        (1, "hp", "W", 745.69987),
        (60, "l/min", "l/s", 1),
        (3.6, "m³/h", "l/s", 1),
        (36, "km/h", "m/s", 10),
        (25.4, "mm", "in", 1),
        (1, "kWh", "kWh", 1),
        (7, "widgets", " widgets ", 7),
        (7, "percent", "%", 7),
        (7, "%", "Percent", 7),
        (7, "kpa", "kPa", 7),
        (7, "PSI", "psi", 7),
        (7, "Bar", "bar", 7),
        (1, "Bar", "KPa", 100),
        (7, "°c", "°C", 7),
        (7, "M3/H", "m3/h", 7),
        (7, "RPM", "rpm", 7),
        (7, "KG", "kg", 7),
        (7, "HZ", "Hz", 7),
        (1, "Mpa", "kPa", 1000),
        (7, "u" * 80, "u" * 80, 7),
    ],
)
def test_a_number_in_one_unit_is_one_in_another(
    number: float, given_unit: str, wanted: str, expected: float
) -> None:
    linear = conversion(given_unit, wanted)
    assert linear is not None
    assert number * linear[0] + linear[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "pair",
    [
        ("bar", "degC"),
        ("widgets", "bar"),
        ("bar", "widgets"),
        ("mw", "kW"),
        ("mw", "MW"),
        ("mpa", "MPa"),
        ("mV", "MV"),
        ("mWh", "MWh"),
        ("hm", "mph"),
        ("%", "ppm"),
        ("", "bar"),
        ("kWh", "kW"),
    ],
)
def test_units_that_have_nothing_in_common(pair: tuple[str, str]) -> None:
    assert conversion(*pair) is None


UNITS = [
    "degC",
    "°F",
    "K",
    "bar",
    "psi",
    "mmHg",
    "kW",
    "hp",
    "l/min",
    "gpm",
    "mph",
    "kn",
    "ft",
    "µm",
    "other",
]


@given(st.sampled_from(UNITS), st.sampled_from(UNITS), st.floats(-1e6, 1e6))
def test_there_and_back_is_the_same(one: str, other: str, number: float) -> None:
    there, back = conversion(one, other), conversion(other, one)
    assert (there is None) is (back is None)
    if there is not None and back is not None:
        again = (number * there[0] + there[1]) * back[0] + back[1]
        assert math.isclose(again, number, rel_tol=1e-9, abs_tol=1e-6)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_may_be_a_unit(one: str, other: str) -> None:
    conversion(one, other)
    assert conversion(one, one) == (1.0, 0.0)


def decoder_of(document: Mapping[str, Any], **sensors: Mapping[str, Any]) -> Decoder:
    rules = tuple(SensorSection(**keys).rule() for keys in sensors.values())
    mapping = mapping_of(CUSTOM, document)
    return Decoder(StreamSpec("s", tuple(sensors), format=Format.MAPPED, input=mapping, sensor_rules=rules))


def read(decoder: Decoder, *messages: Any) -> list[Reading]:
    records = [Record(i, None, json.dumps(each).encode(), -1) for i, each in enumerate(messages)]
    found = decoder.decode_all(records)
    assert all(isinstance(each, Reading) for each in found)
    return found  # type: ignore[return-value]


LONG = {"asset": "a", "time": "t", "sensor": "s", "value": "v", "unit": "u"}
T = 1_764_397_200


def test_a_unit_that_flips_is_converted_counted_and_changes_nothing_else() -> None:
    decoder = decoder_of(LONG, Temp={"unit": "degC"}, Level={})
    message = {"a": "p", "t": T, "s": "Temp"}
    readings = read(
        decoder,
        message | {"v": 20.0, "u": "°C"},
        message | {"v": 68.0, "u": "°F"},
        message | {"v": "68", "u": "degF"},
        message | {"v": 20.0},
        message | {"v": 20.0, "u": ""},
        message | {"v": 20.0, "u": None},
        message | {"v": None, "u": "°F"},
        message | {"s": "Level", "v": 3.0, "u": "furlongs"},
    )
    values = [reading.values[0] for reading in readings if reading.values is not None]
    assert values[:6] == pytest.approx([20.0] * 6)
    assert math.isnan(values[6])
    assert readings[7].values is not None
    assert readings[7].values[1] == 3.0
    assert decoder.converted_units == {("Temp", "°F"): 1, ("Temp", "degF"): 1}
    assert not decoder.corrupt_by_fault


def test_a_unit_that_cannot_be_converted_masks_the_value_under_its_own_fault() -> None:
    decoder = decoder_of(LONG, Temp={"unit": "degC"})
    message = {"a": "p", "t": T, "s": "Temp", "v": 20.0}
    readings = read(decoder, message | {"u": "bar"}, message | {"u": "bar"}, message | {"u": "degC"})
    assert [list(reading.corrupt) for reading in readings] == [[(0, "unit")], [(0, "unit")], []]
    assert decoder.corrupt_by_fault == {("Temp", "unit"): 2}
    assert not decoder.converted_units


def test_a_unit_that_is_longer_than_what_counts_is_itself() -> None:
    unit = "cubic metres at normal conditions of pressure and temperature, per hour of running"
    decoder = decoder_of(LONG, Flow={"unit": unit})
    (reading,) = read(decoder, {"a": "p", "t": T, "s": "Flow", "v": 3.0, "u": unit})
    assert reading.values is not None
    assert reading.values[0] == 3.0


def test_the_conversion_comes_after_sentinels_and_before_the_scale() -> None:
    decoder = decoder_of(LONG, P={"unit": "kPa", "scale": 2.0, "offset": 1.0, "missing": [-1]})
    message = {"a": "p", "t": T, "s": "P", "u": "bar"}
    first, second = read(decoder, message | {"v": 3.0}, message | {"v": -1})
    assert first.values is not None
    assert second.values is not None
    assert first.values[0] == pytest.approx(601.0)
    assert math.isnan(second.values[0])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"asset": "a", "time": "t", "leaves": "v", "unit": "u"},
            {"a": "p", "t": T, "u": "°F", "v": {"x": 212.0, "y": 32.0}},
        ),
        (
            {"asset": "a", "time": "t", "fields": {"x": "v.x", "y": "v.y"}, "unit": "u"},
            {"a": "p", "t": T, "u": "°F", "v": {"x": 212.0, "y": 32.0}},
        ),
        (
            {"asset": "a", "time": "t", "leaves": ".", "unit": "[$name_unit]"},
            {"a": "p", "t": T, "x": 212.0, "x_unit": "°F", "y": 0.0, "y_unit": "°C"},
        ),
        (
            {"each": "r[]", "asset": "^.a", "time": "^.t", "sensor": "n", "value": "v", "unit": ["u", "^.u"]},
            {"a": "p", "t": T, "u": "°F", "r": [{"n": "x", "v": 212.0}, {"n": "y", "v": 0.0, "u": "°C"}]},
        ),
    ],
    ids=["leaves", "fields", "beside", "items"],
)
def test_a_unit_is_found_in_every_shape(document: Mapping[str, Any], message: Any) -> None:
    decoder = decoder_of(document, x={"unit": "degC"}, y={"unit": "degC"})
    (reading,) = read(decoder, message)
    assert reading.values is not None
    assert list(reading.values) == pytest.approx([100.0, 0.0])
    assert not decoder.unknown_sensors


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "home-assistant",
            {
                "entity_id": "sensor.pump7_temperature",
                "state": "212",
                "attributes": {"unit_of_measurement": "°F"},
                "last_updated": "2025-11-29T06:20:00Z",
            },
        ),
        (
            "ngsi-ld",
            [
                {
                    "id": "urn:p",
                    "temperature": {
                        "type": "Property",
                        "value": 212,
                        "unitCode": "FAH",
                        "observedAt": "2025-11-29T06:20:00Z",
                    },
                }
            ],
        ),
        ("senml", [{"bn": "p:", "bt": T, "n": "temperature", "u": "K", "v": 373.15}]),
    ],
)
def test_presets_know_where_the_unit_is(preset: str, message: Any) -> None:
    rules = (SensorSection(unit="degC").rule(),)
    spec = StreamSpec(
        "s", ("temperature",), format=Format.MAPPED, input=mapping_of(preset, {}), sensor_rules=rules
    )
    (reading,) = read(Decoder(spec), message)
    assert reading.values is not None
    assert reading.values[0] == pytest.approx(100.0)
