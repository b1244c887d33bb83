"""Protobuf schemas as the text of their .proto files to descriptors, by the compiler of grpcio-tools.

Registries that cannot serialize a schema (Karapace, Apicurio) have the text alone. The compiler runs in a process of
its own: it is C++, and the text is a producer's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

from daemon.documents import one_line
from daemon.errors import ConfigError

COMPILED_WITHIN_S: Final = 60.0
MAIN: Final = "anomalyd-main.proto"
"""The name of the file itself, which no other file imports."""


class ProtoTextError(ValueError):
    """The text of a .proto file does not compile; the message says why."""


def compile_proto(text: str, imports: Mapping[str, str]) -> bytes:
    """The ``FileDescriptorSet`` of a file and all that it imports, itself the last.

    Args:
        text: of the file.
        imports: the texts of the files that it imports, by the names under which it does.

    Raises:
        ProtoTextError: it does not compile.
        ConfigError: the compiler is not installed.
    """
    if find_spec("grpc_tools") is None:
        raise ConfigError(
            "the schema registry has Protobuf as text only, and compiling it needs the extra: "
            "pip install 'anomalyd[protobuf]'; or give decode: {kind: protobuf, descriptor: FILE}"
        )
    with TemporaryDirectory(prefix="anomalyd-proto-") as folder:
        for name, content in ({**imports, MAIN: text}).items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not name.isprintable():
                raise ProtoTextError(f"it imports {name!r}, which is no name of a file")
            place = Path(folder) / path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(content, encoding="utf-8", errors="replace")
            except OSError as error:
                raise ProtoTextError(f"it imports {name!r}: {error.strerror}") from error
        out = Path(folder) / "anomalyd-descriptors"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports"]
        try:
            done = subprocess.run(
                [*command, f"--descriptor_set_out={out}", MAIN],
                cwd=folder,
                capture_output=True,
                timeout=COMPILED_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProtoTextError(f"its text does not compile within {COMPILED_WITHIN_S:.0f} s") from error
        if done.returncode or not out.is_file():
            said = one_line(done.stderr.decode(errors="replace")).removeprefix(f"{MAIN}:")
            raise ProtoTextError(f"its text does not compile: {said[:160]}")
        return out.read_bytes()
