"""The texts of .proto files to descriptors; no name leads out of the compiler's folder."""

from __future__ import annotations

import pytest

from daemon.adapters.schemas import proto_text as module
from daemon.adapters.schemas.proto_text import ProtoTextError, compile_proto
from daemon.stream.decode.protobuf import ProtobufFiles, files_of_set
from tests.stream.decode.framings import PUMP_PROTO

BASE = 'syntax = "proto3"; package base; message Value { double v = 1; }'


def test_a_file_is_compiled_with_what_it_imports() -> None:
    main = 'syntax = "proto3"; import "deep/er/base.proto"; message M { base.Value v = 1; }'
    files = ProtobufFiles(files_of_set(compile_proto(main, {"deep/er/base.proto": BASE})))
    assert files.at((0,))(b"\x0a\x00") == {"v": {"v": 0.0}}
    assert ProtobufFiles(files_of_set(compile_proto(PUMP_PROTO, {}))).at((1,))(b"")["asset"] == ""


@pytest.mark.parametrize(
    "name", ["../evil.proto", "/tmp/evil.proto", "a/../../evil.proto", "a\nb.proto", "x" * 300]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ProtoTextError, match="it imports"):
        compile_proto(BASE, {name: BASE})


@pytest.mark.parametrize(
    "text", ["", "nonsense", 'syntax = "proto3"; import "absent.proto";', "message M {" * 5000]
)
def test_a_text_that_does_not_compile_says_why(text: str) -> None:
    if not text:
        assert files_of_set(compile_proto(text, {}))  # an empty file is one
        return
    with pytest.raises(ProtoTextError, match="its text does not compile"):
        compile_proto(text, {})


def test_a_compiler_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPILED_WITHIN_S", 0.0)
    with pytest.raises(ProtoTextError, match="within 0 s"):
        compile_proto(BASE, {})
