"""``anomalyd models``: the versions of the streams' models, in the topic of all replicas or in a directory.

``registries`` opens either as a ``Registry``, and finds the stream and the version that are meant; ``described`` says
what is known of a version; ``changing`` promotes, rolls back, retires, exports and imports; ``comparing`` says how two
versions differ, and ``tables`` puts the results into words.

In: ``ModelsOptions`` and what each command takes. Out: what ``--json`` prints.
"""

from daemon.commands.models.changing import (
    Change,
    export_model,
    import_model,
    promote_model,
    retire_model,
    roll_back,
)
from daemon.commands.models.comparing import diff_models
from daemon.commands.models.described import list_models, show_model
from daemon.commands.models.registries import ModelsOptions

__all__ = [
    "Change",
    "ModelsOptions",
    "diff_models",
    "export_model",
    "import_model",
    "list_models",
    "promote_model",
    "retire_model",
    "roll_back",
    "show_model",
]
