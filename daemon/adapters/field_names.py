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
        *(
            "maschine",
            "maschinenid",
            "maschinenname",
            "maschinennr",
            "maschinennummer",
            "anlage",
            "anlagenid",
        ),
        *(
            "anlagenname",
            "anlagennr",
            "gerät",
            "geraet",
            "geräteid",
            "geraeteid",
            "gerätename",
            "geraetename",
        ),
        *("aggregat", "aggregatid", "betriebsmittel", "equipmentnr", "pumpe", "pumpenid", "turbinenid"),
        *("fahrzeug", "fahrzeugid", "roboter", "zähler", "zaehler", "zählernummer", "zaehlernummer"),
        *(
            "standort",
            "stationsid",
            "linie",
            "werk",
            "seriennummer",
            "machineno",
            "machinenumber",
            "machinenr",
        ),
        *(
            "équipement",
            "equipement",
            "idmachine",
            "nommachine",
            "appareil",
            "installation",
            "pompe",
            "moteur",
        ),
        *("véhicule", "vehicule", "compteur", "idstation", "usine", "numeroserie", "numérodesérie"),
        *(
            "máquina",
            "maquina",
            "idmaquina",
            "idmáquina",
            "equipo",
            "idequipo",
            "dispositivo",
            "iddispositivo",
        ),
        *("bomba", "turbina", "vehículo", "vehiculo", "estación", "estacion", "planta", "numerodeserie"),
        *("macchina", "idmacchina", "impianto", "idimpianto", "apparecchio", "apparecchiatura", "pompa"),
        *("motore", "veicolo", "stazione", "contatore", "stabilimento", "matricola", "numerodiserie"),
        *(
            "dev",
            "devid",
            "deviceuuid",
            "coreid",
            "slave",
            "slaveid",
            "friendlyname",
            "ieeeaddr",
            "ieeeaddress",
            "macaddress",
            "mac",
            "src",
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
        *(
            "tstamp",
            "publishedat",
            "datenum",
            "timestring",
            "epoch",
            "unixtime",
            "t",
            "at",
            "when",
            "receivedat",
            "servertimestamp",
        ),
        *("zeitpunkt", "messzeit", "messzeitpunkt", "messdatum", "datumzeit", "datumuhrzeit", "uhrzeit"),
        *("aufnahmezeit", "erfassungszeit", "erfasstam", "zeitutc", "zeitlokal", "ortszeit"),
        *("horodatage", "horodate", "dateheure", "heure", "datemesure", "datedemesure"),
        *("fecha", "fechahora", "fechayhora", "marcadetiempo", "hora", "tiempo", "fechamedicion"),
        *("elapsedtime", "xvalue"),  # of a recording, from 0
        *("dataora", "dataeora", "ora", "orario", "marcatemporale", "dataorario", "datamisura", "tempo"),
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
        *("messstelle", "messstellenid", "messtelle", "messpunkt", "messgröße", "messgroesse", "messkanal"),
        *(
            "kanal",
            "kanalname",
            "sensorkennung",
            "sensornummer",
            "sensornr",
            "fühler",
            "fuehler",
            "datenpunkt",
        ),
        *("kennzeichen", "merkmal", "signalbezeichnung", "variablenname"),
        *("capteur", "idcapteur", "nomcapteur", "voie", "canal", "grandeur", "paramètre", "parametre"),
        *("pointdemesure", "nomvariable", "idsensor", "nombresensor", "magnitud", "parámetro", "parametro"),
        *("puntodemedida", "señal", "senal", "etiqueta", "sensore", "idsensore", "nomesensore", "canale"),
        *("grandezza", "segnale", "puntodimisura", "variabile", "sensortype", "sensortag", "datapoint"),
        *("datapointid", "datapointname", "tagpath", "signalpath", "varname", "dataitemid", "dataitem"),
        *("series", "seriesname", "measurename", "eventname", "event", "registername", "target"),
    ),
    Role.VALUE: (
        *("value", "val", "reading", "readingvalue", "measurementvalue", "sensorvalue", "numericvalue"),
        *("doublevalue", "floatvalue", "wert", "messwert", "data", "v"),
        *("measuredvalue", "measurevalue", "valuenum", "numvalue", "processvalue", "rawvalue", "analogvalue"),
        *("varvalue", "result", "messergebnis", "istwert", "zahlenwert", "rohwert"),
        *("valeur", "valeurmesuree", "valeurmesurée", "mesure", "valor", "valormedido", "medida", "medición"),
        *("medicion", "lectura", "valore", "valoremisurato", "misura", "lettura"),
    ),
    Role.VALUES: (
        *("values", "readings", "measurements", "sensors", "fields", "metrics", "data", "payload", "body"),
        *("telemetry", "state", "attributes", "properties", "object", "decodedpayload"),
    ),
    Role.QUALITY: (
        "quality",
        "q",
        "qc",
        "status",
        "statuscode",
        "qualitycode",
        "opcquality",
        "validity",
        "good",
    ),
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
