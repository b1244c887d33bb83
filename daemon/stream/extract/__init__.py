"""Layer 2: a tree to readings, as the stream's mapping says (``daemon.mapping``).

``Extractor`` compiles a mapping once, to functions of a *scope*: an item of ``each`` with the items around it
(``items``). ``paths`` finds a place in an item, ``sources`` reads what may be elsewhere too (key, topic, header),
``times`` makes event times, ``quality`` says which values to trust, ``numbers`` makes numbers of what is there.
"""

from daemon.stream.extract.extractor import ExtractedCell, Extractor
from daemon.stream.rejection import SkippedError

__all__ = ["ExtractedCell", "Extractor", "SkippedError"]
