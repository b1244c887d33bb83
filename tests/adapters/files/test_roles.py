"""Which column is what, by names that the cells bear out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from daemon.adapters.field_names import Role
from daemon.adapters.files import Table, TableReading, read_table
from daemon.errors import InputError, UsageError
from daemon.mapping import SensorRule
from tests.adapters.files.tables import NAN, csv_file, parquet_file, seconds, stamps


def read(tmp_path: Path, text: str, **known: object) -> Table:
    return read_table(csv_file(tmp_path / "a.csv", text), reading=TableReading(**known))  # type: ignore[arg-type]


def rows(count: int, cells: str) -> str:
    """Lines of cells with {i} for the row, {t} for its second and {k} for one of two machines."""
    return "".join(cells.format(i=i, t=i // 2, k=i % 2) + "\n" for i in range(count))


@pytest.mark.parametrize(
    "name", ["machineID", "device_id", "Unit Number", "Serial-No", "host", "asset", "Equipment"]
)
@pytest.mark.parametrize("value", ["m{k}", "{k}"])
def test_assets_are_known_by_their_names(tmp_path: Path, name: str, value: str) -> None:
    name = "serial_number" if name == "Serial-No" else name
    table = read(tmp_path, f"time,{name},x\n" + rows(8, f"2024-01-01 00:00:0{{t}},{value},1.{{i}}"))
    assert len(table.asset_names) == 2
    assert table.sensors == ("x",)


@pytest.mark.parametrize("name", ["entry_id", "RECORD", "id", "Index", "", "Unnamed: 0"])
def test_a_count_of_the_rows_is_no_sensor_and_no_asset(tmp_path: Path, name: str) -> None:
    table = read(tmp_path, f"{name},time,x\n" + rows(8, "{i},2024-01-01 00:00:0{i},1.{i}"))
    assert (table.sensors, table.asset_names) == (("x",), ("asset-0",))
    assert any("a count of the rows, left out" in note for note in table.notes)


def test_a_measurement_that_is_called_as_a_machine_stays_a_sensor(tmp_path: Path) -> None:
    table = read(tmp_path, "time,pump,motor\n" + rows(8, "2024-01-01 00:00:0{i},{k},2.{i}"))
    assert (table.sensors, table.asset_names) == (("pump", "motor"), ("asset-0",))
    table = read(tmp_path, "time,pump_id,x\n" + rows(8, "2024-01-01 00:00:0{i},1.{i},2.{i}"))
    assert table.sensors == ("pump_id", "x")


def test_sensors_of_the_stream_are_never_keys(tmp_path: Path) -> None:
    from daemon.mapping import PLAIN

    text = "time,machine,x\n" + rows(8, "2024-01-01 00:00:0{i},{k},2.{i}")
    assert read(tmp_path, text, sensors={"machine": PLAIN}).sensors == ("machine", "x")


def test_the_user_names_columns(tmp_path: Path) -> None:
    text = "moment,who,which,much\n" + rows(8, "2024-01-01 00:00:0{t},a,s{k},{i}")
    table = read(tmp_path, text, time=("moment",), asset="who", sensor="which", value="much")
    assert (table.sensors, table.asset_names, len(table)) == (("s0", "s1"), ("a",), 4)
    for option, known in (
        ("--time momnt", {"time": ("momnt",)}),
        ("--asset whom", {"asset": "whom"}),
        ("--sensor witch", {"sensor": "witch", "value": "much"}),
        ("--value mich", {"sensor": "which", "value": "mich"}),
    ):
        with pytest.raises(UsageError, match=rf"{option}: .* has no such column; did you mean"):
            read(tmp_path, text, **known)
    with pytest.raises(UsageError, match=r"--time names one column of times, two: .*, or those of year"):
        read(tmp_path, text, time=("moment", "who", "which"))
    with pytest.raises(UsageError, match="--sensor alone does not do"):
        read(tmp_path, text, time=("moment",), sensor="which")


def test_the_configuration_names_columns_that_may_be_there(tmp_path: Path) -> None:
    text = "time,stamp,x\n" + rows(4, "2024-01-01 00:00:0{i},2024-01-02 00:00:0{i},1")
    assert seconds(read(tmp_path, text, likely={Role.TIME: ("stamp",)}))[0] == 86_400
    assert seconds(read(tmp_path, text, likely={Role.TIME: ("gone",)}))[0] == 0


@pytest.mark.parametrize(
    ("header", "cells", "sensors"),
    [
        ("time,sensor,value", "2024-01-01 00:00:0{t},s{k},{i}", ("s0", "s1")),
        ("timestamp,tag_name,val,quality", "2024-01-01 00:00:0{t},s{k},{i},good", ("s0", "s1")),
        ("ts,device,sensor_id,value,unit", "2024-01-01 00:00:0{t},d,{k},{i},bar", ("0", "1")),
        ("ts,name,value", "2024-01-01 00:00:0{t},s{k},{i} rpm", ("s0", "s1")),
    ],
)
def test_a_long_table_is_put_together(
    tmp_path: Path, header: str, cells: str, sensors: tuple[str, ...]
) -> None:
    table = read(tmp_path, f"{header}\n" + rows(8, cells))
    assert table.sensors == sensors
    assert table.values.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert seconds(table) == [0, 1, 2, 3]


def test_values_of_a_wide_table_are_no_long_one(tmp_path: Path) -> None:
    table = read(tmp_path, "time,value,status\n" + rows(4, "2024-01-01 00:00:0{i},1.{i},{k}"))
    assert table.sensors == ("value", "status")


def test_a_value_of_bad_quality_is_missing(tmp_path: Path) -> None:
    long = "time,sensor,value,quality\n" + rows(4, "2024-01-01 00:00:0{t},s{k},{i},192")
    table = read(tmp_path, long.replace("3,192", "3,0"))
    np.testing.assert_array_equal(table.values, [[0, 1], [2, NAN]])
    assert "sensor 'value': 1 cells count as missing, as 'quality' is not good" in table.notes
    wide = "time,x,x_quality,y\n2024-01-01,1,Good,5\n2024-01-02,2,Bad,6\n2024-01-03,3,,7\n"
    table = read(tmp_path, wide)
    assert table.sensors == ("x", "y")
    np.testing.assert_array_equal(table.values, [[1, 5], [NAN, 6], [3, 7]])
    whole = "time,x,quality,y\n2024-01-01,1,true,5\n2024-01-02,2,false,6\n"
    np.testing.assert_array_equal(read(tmp_path, whole).values, [[1, 5], [NAN, NAN]])


def test_a_quality_column_counts_for_a_sensor_that_the_stream_lists(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv", "time,x,x_quality,y\n2024-01-01,1,Good,5\n2024-01-02,2,Bad,6\n")
    reading = TableReading(sensors={"x": SensorRule(), "warm": SensorRule(source="y")})
    table = read_table(path, reading=reading)
    assert table.sensors == ("x", "warm")
    np.testing.assert_array_equal(table.values, [[1, 5], [NAN, 6]])
    listed = replace(
        reading, sensors={**reading.sensors, "x_quality": SensorRule(states={"Good": 1, "Bad": 0})}
    )
    table = read_table(path, reading=listed)
    np.testing.assert_array_equal(table.values, [[1, 1, 5], [2, 0, 6]])


def test_a_quality_column_counts_for_sensors_with_a_unit(tmp_path: Path) -> None:
    text = "time,T [°C],T [°F],T_Quality,p (bar),p,p_status\n2024-01-01,1,34,Good,5,6,Bad\n2024-01-02,2,36,Bad,6,7,Good\n"
    for known in (
        {},
        {"T [°C]": SensorRule(), "T [°F]": SensorRule(), "p (bar)": SensorRule(), "p": SensorRule()},
    ):
        table = read_table(csv_file(tmp_path / "a.csv", text), reading=TableReading(sensors=known))
        assert table.sensors == ("T [°C]", "T [°F]", "p (bar)", "p")
        np.testing.assert_array_equal(table.values, [[1, 34, 5, NAN], [NAN, NAN, 6, 7]])


def test_times_that_repeat_without_an_asset_are_noted_with_a_remedy(tmp_path: Path) -> None:
    text = "time,line no,x\n" + rows(40, "2024-01-01 00:00:{t:02d},L{k},{i}.5")
    notes = read(tmp_path, text).notes
    assert notes[0].endswith("if line no names machines, --asset 'line no'")
    assert (
        "20 rows have the asset and time of an earlier row; 20 of them contradict it (the first counts)"
        in notes
    )
    table = read(tmp_path, text, asset="line no")
    assert (table.asset_names, table.notes) == (("L0", "L1"), ())
    text = "time,x\n" + rows(40, "2024-01-01 00:00:{t:02d},{i}.5")
    assert "times repeat, and no column is the asset: --asset COLUMN names one" in read(tmp_path, text).notes


def test_the_only_column_of_dates_is_the_time(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", x=[1, 2], logged=stamps(0, 1))
    table = read_table(path)
    assert seconds(table) == [0, 1]
    assert "'logged' is taken as the time, being the only column of dates with times" in table.notes
    path = parquet_file(tmp_path / "a.parquet", x=[1, 2], logged=stamps(0, 1), kept=stamps(0, 1))
    with pytest.raises(
        InputError, match=r"--time COLUMN \(logged, kept hold dates\); found: x, logged, kept"
    ):
        read_table(path)


def test_structures_and_decimals_of_parquet(tmp_path: Path) -> None:
    inner = pa.array([{"a": 1.5, "deep": {"b": 2}}, {"a": None, "deep": {"b": 3}}])
    price = pa.array([1, 2]).cast(pa.decimal128(21, 2))
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), v=inner, price=price)
    table = read_table(path)
    assert table.sensors == ("v.a", "v.deep.b", "price")
    np.testing.assert_array_equal(table.values, [[1.5, 2, 1], [NAN, 3, 2]])
    path = parquet_file(
        tmp_path / "b.parquet", ts=pa.array(["1767225600.5"]).cast(pa.decimal128(20, 3)), x=[1]
    )
    assert str(np.datetime64(int(read_table(path).time_ns[0]), "ns")) == "2026-01-01T00:00:00.500000000"


def test_a_long_parquet(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=stamps(0, 0, 1, 1),
        sensor=pa.array(["a", "b", "a", "b"]).dictionary_encode(),
        value=[1.0, 2.0, 3.0, None],
    )
    table = read_table(path)
    np.testing.assert_array_equal(table.values, [[1, 2], [3, NAN]])


def test_of_two_assets_the_one_counts_that_tells_rows_apart(tmp_path: Path) -> None:
    text = "DATE_TIME,PLANT_ID,SOURCE_KEY,x\n" + rows(12, "2024-01-01 00:00:0{t},41,inv{k},{i}.5")
    table = read(tmp_path, text)
    assert (table.asset_names, table.sensors) == (("inv0", "inv1"), ("x",))
    assert table.notes == ("PLANT_ID: may be the asset too, left out; --asset PLANT_ID takes it instead",)


def test_a_number_of_its_own_in_each_row_is_neither_asset_nor_sensor(tmp_path: Path) -> None:
    text = "time,id,x\n" + "".join(f"2024-01-01 00:00:{i:02d},{i * 7 + i % 3},{i}.5\n" for i in range(20))
    table = read(tmp_path, text)
    assert (table.asset_names, table.sensors) == (("asset-0",), ("x",))
    assert table.notes == ("id: whole numbers, another in each row, left out",)


def test_the_time_once_more_is_no_sensor(tmp_path: Path) -> None:
    text = "timestamp,epoch,x\n" + "".join(
        f"2024-01-01 00:00:{i:02d},{1704067200000 + 1000 * i},{i}.5\n" for i in range(20)
    )
    table = read(tmp_path, text)
    assert (table.sensors, table.notes) == (("x",), ("epoch: the time once more, left out",))


def test_times_of_day_with_points_and_hours_as_one_number(tmp_path: Path) -> None:
    table = read(tmp_path, "Date;Time;CO(GT);;\n10/03/2004;18.00.00;2,6;;\n10/03/2004;19.00.00;2;;\n")
    assert (table.sensors, table.values.tolist()) == (("CO(GT)",), [[2.6], [2]])
    assert str(np.datetime64(int(table.time_ns[1]), "ns"))[:13] == "2004-03-10T19"
    text = "datum;x\n" + "".join(f"20240101{hour:02d};{hour}\n" for hour in range(24))
    assert seconds(read(tmp_path, text))[-1] == 23 * 3600


def test_of_two_names_of_sensors_the_one_counts_that_tells_rows_apart(tmp_path: Path) -> None:
    text = (
        "#datatype,string,dateTime,double,string,string,string\n#group,false,false,false,true,true,true\n"
        ",result,_time,_value,_field,_measurement,host\n"
    ) + rows(8, ",,2024-01-01T00:00:0{t}Z,{i},f{k},m,h")
    table = read(tmp_path, text)
    assert (table.sensors, table.asset_names, len(table)) == (("f0", "f1"), ("h",), 4)


def test_a_unit_in_brackets_is_no_part_of_a_role(tmp_path: Path) -> None:
    table = read(tmp_path, "Time [ms],Device (no),U [V]\n" + rows(4, "{i}500,{k},1.{i}"))
    assert (table.sensors, len(table.asset_names)) == (("U [V]",), 2)
    assert table.time_ns.tolist() == [(1000 * i + 500) * 10**6 for i in range(4)]


def test_a_date_and_whole_hours(tmp_path: Path) -> None:
    text = "date,hour,x\n" + "".join(f"2024-01-0{1 + i // 24},{i % 24},{i}.5\n" for i in range(48))
    table = read(tmp_path, text)
    assert (table.sensors, seconds(table)) == (("x",), [3600 * i for i in range(48)])


def test_what_tells_the_rows_of_one_time_apart_is_said_first_and_proposed_as_no_sensor(
    tmp_path: Path,
) -> None:
    rows = "".join(f"2026-01-01T00:{i:02d}:00Z,{a},{i % 7}.5,{i % 5}.5\n" for i in range(40) for a in "xy")
    (tmp_path / "a.csv").write_text("ts,rig code,temp,flow\n" + rows)
    table = read_table(tmp_path / "a.csv")
    assert table.notes[0].endswith("rig code tells the rows apart: --asset 'rig code'")
    assert not any("states" in note for note in table.notes)


@pytest.mark.parametrize("asset", ["", "m1,"])
def test_one_column_of_names_and_one_of_numbers_are_said_to_look_long(tmp_path: Path, asset: str) -> None:
    rows = "".join(
        f"2026-01-01T00:{i:02d}:00Z,{asset}{s},{i % 7}.{len(s)}\n" for i in range(40) for s in ("a b", "c")
    )
    (tmp_path / "a.csv").write_text(f"ts,{'machine,' if asset else ''}probe kind,x\n" + rows)
    table = read_table(tmp_path / "a.csv")
    assert table.notes[0].startswith("looks long: --sensor 'probe kind' --value x")
    long = read_table(tmp_path / "a.csv", reading=TableReading(sensor="probe kind", value="x"))
    assert long.sensors == ("a b", "c")


@pytest.mark.parametrize(
    "header",
    [
        "timeStamp,machineId,sensorId,measuredValue",
        "Zeitpunkt,Anlage,Messstelle,Messwert",
        "MESS_DATUM,Ger\u00e4t,Kanal,Wert",
        "Horodatage,\u00c9quipement,Capteur,Valeur",
        "Fecha,M\u00e1quina,Variable,Valor",
        "Data ora,Macchina,Sensore,Valore",
    ],
)
def test_a_long_table_is_read_by_the_names_of_several_languages(tmp_path: Path, header: str) -> None:
    rows = "".join(
        f"2026-01-01T00:{i:02d}:00Z,m{m},{s},{i}.5\n" for i in range(20) for m in (1, 2) for s in "ab"
    )
    (tmp_path / "a.csv").write_text(f"{header}\n{rows}")
    table = read_table(tmp_path / "a.csv")
    assert (table.sensors, table.asset_names, len(table)) == (("a", "b"), ("m1", "m2"), 40)


@pytest.mark.parametrize("asset", ["Maschine", "Maschinen-Nr", "Anlage", "Aggregat", "Geraet", "Impianto"])
def test_the_asset_of_a_wide_table_is_found_by_usual_names(tmp_path: Path, asset: str) -> None:
    rows = "".join(f"05.03.2026;0{i // 60}:{i % 60:02d}:00;P{m};{i},5\n" for i in range(90) for m in (1, 2))
    (tmp_path / "a.csv").write_text(f"Datum;Uhrzeit;{asset};Druck\n{rows}")
    assert read_table(tmp_path / "a.csv").asset_names == ("P1", "P2")
