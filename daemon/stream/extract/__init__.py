"""Layer 2: a tree to readings, as the stream's mapping says (``daemon.mapping``).

``Extractor`` compiles a mapping once, to functions of a *scope*: an item of ``each`` with the items around it
(``items``). ``paths`` finds a place in an item, ``sources`` reads what may be elsewhere too (key, topic, header),
``times`` makes event times, ``quality`` says which values to trust, ``numbers`` makes numbers of what is there.

``MappedColumns`` does the same for many messages of plain JSON at once; what it finds odd is left to ``Extractor``.
"""

from daemon.stream.extract.column_rules import MappedPiece
from daemon.stream.extract.columns import MappedColumns, may_have_columns
from daemon.stream.extract.extractor import ExtractedCell, Extractor, most_readings
from daemon.stream.rejection import SkippedError

__all__ = [
    "ExtractedCell",
    "Extractor",
    "MappedColumns",
    "MappedPiece",
    "SkippedError",
    "may_have_columns",
    "most_readings",
]
