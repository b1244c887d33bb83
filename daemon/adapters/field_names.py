"""The names by which people call the fields of a reading: the same list for messages, tables and topics.

A name is compared without capital letters and without anything but letters and digits, so that ``machine_id``,
``machineId``, ``Machine ID`` and ``MACHINE-ID`` are one. Within a role the order is the order of preference.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a field of a reading is."""

    ASSET = "asset"
    TIME = "time"
    SENSOR = "sensor"
    VALUE = "value"
    VALUES = "values"  # an object of sensors with their values
    QUALITY = "quality"
    UNIT = "unit"


NAMES: Final[dict[Role, tuple[str, ...]]] = {
    Role.ASSET: (
        *("asset", "assetid", "assetname", "equipment", "equipmentid", "equipmentname"),
        *("machine", "machineid", "machinename", "device", "deviceid", "devicename", "deveui"),
        *("unitid", "unitnumber", "engine", "engineid", "turbine", "turbineid", "inverter", "inverterid"),
        *("pump", "pumpid", "motor", "motorid", "vehicle", "vehicleid", "vin", "robot", "robotid"),
        *("station", "stationid", "node", "nodeid", "thing", "thingid", "thingname", "entity", "entityid"),
        *("meter", "meterid", "plant", "plantid", "site", "siteid", "sourcekey", "sourceid", "source"),
        *(
            "clientid",
            "client",
            "host",
            "hostname",
            "gateway",
            "gatewayid",
            "serial",
            "serialnumber",
            "id",
            "uid",
        ),
    ),
    Role.TIME: (
        *(
            "ts",
            "timestamp",
            "time",
            "datetime",
            "eventtime",
            "eventtimestamp",
            "timestampms",
            "timestamputc",
        ),
        *(
            "measuredat",
            "observedat",
            "sourcetimestamp",
            "sampletime",
            "readingtime",
            "recordedat",
            "createdat",
        ),
        *(
            "date",
            "dateandtime",
            "timeutc",
            "utctime",
            "datetimeutc",
            "localtime",
            "zeit",
            "zeitstempel",
            "datum",
        ),
        *("timestring", "epoch", "unixtime", "t", "at", "when", "receivedat", "servertimestamp"),
    ),
    Role.SENSOR: (
        *(
            "sensor",
            "sensorid",
            "sensorname",
            "channel",
            "channelid",
            "channelname",
            "tag",
            "tagid",
            "tagname",
        ),
        *(
            "signal",
            "signalname",
            "signalid",
            "metric",
            "metricname",
            "parameter",
            "parametername",
            "variable",
        ),
        *("variablename", "measurement", "measurementname", "point", "pointname", "pointid", "attribute"),
        *("quantity", "property", "field", "item", "itemname", "name", "key", "n"),
    ),
    Role.VALUE: (
        *("value", "val", "reading", "readingvalue", "measurementvalue", "sensorvalue", "numericvalue"),
        *("doublevalue", "floatvalue", "wert", "messwert", "data", "v"),
    ),
    Role.VALUES: (
        *("values", "readings", "measurements", "sensors", "fields", "metrics", "data", "payload", "body"),
        *("telemetry", "state", "attributes", "properties", "object", "decodedpayload"),
    ),
    Role.QUALITY: ("quality", "q", "status", "statuscode", "qualitycode", "opcquality", "validity", "good"),
    Role.UNIT: ("unit", "units", "uom", "unitofmeasurement", "engineeringunit", "u"),
}


def bare(name: str) -> str:
    """A name as it is compared: letters and digits in lower case."""
    return "".join(c for c in name.lower() if c.isalnum())


def named(names: Iterable[str], role: Role) -> list[str]:
    """Those of the names that are called as the role is, most preferred first."""
    order = {known: i for i, known in enumerate(NAMES[role])}
    found = [(order[bare(name)], i, name) for i, name in enumerate(names) if bare(name) in order]
    return [name for _, _, name in sorted(found)]
