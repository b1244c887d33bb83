"""The schemas that messages name, from a schema registry with the HTTP interface of Confluent's.

``SchemaRegistry`` asks for a schema by its id (``http`` is its connection, ``proto_text`` the compiler for registries
that have Protobuf as text only); ``provide_schemas`` asks for all that some records name and puts the answers where
the decoder looks. A registry that does not answer is a ``RegistryError``: whoever decodes waits, or gives up, but
never decodes such records.
"""

from daemon.adapters.schemas.http import RegistryError
from daemon.adapters.schemas.registry import SchemaRegistry, provide_schemas

__all__ = ["RegistryError", "SchemaRegistry", "provide_schemas"]
