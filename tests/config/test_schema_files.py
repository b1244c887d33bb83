"""Files of schemas, and the section that says where the registry is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.config import load
from daemon.errors import ConfigError
from daemon.mapping import RegistryAddress


def document(decode: Any, **more: Any) -> dict[str, Any]:
    """A configuration with one stream."""
    mapping = {"decode": decode, "asset": "asset", "time": "ts", "leaves": "."}
    stream = {"name": "pumps", "topics": ["pumps"], "sensors": ["a"], "input": mapping}
    return {"streams": [stream], **more}


def options(decode: Any) -> Any:
    """The options of the stream's decoder."""
    (stream,) = load(None, (), document(decode)).streams
    assert stream.mapping is not None
    return stream.mapping.decode.options


def test_the_options_carry_what_the_files_hold(tmp_path: Path) -> None:
    file = tmp_path / "pump.avsc"
    file.write_bytes(b'"int"')
    assert options({"kind": "avro", "schema": str(file)}) == {"schema": b'"int"'}
    assert options({"kind": "avro", "schemas": {7: str(file)}}) == {"schemas": {7: b'"int"'}}
    assert options({"kind": "protobuf", "descriptor": str(file), "message": "a.B"}) == {
        "descriptor": b'"int"',
        "message": "a.B",
    }
    assert options("json") == {}


def test_the_decoders_within_messages_have_files_too(tmp_path: Path) -> None:
    file = tmp_path / "pump.avsc"
    file.write_bytes(b'"int"')
    given = document("json")
    given["streams"][0]["input"]["inner"] = {"path": "payload", "kind": "avro", "schema": str(file)}
    (stream,) = load(None, (), given).streams
    assert stream.mapping is not None
    assert stream.mapping.inner[0].decode.options == {"schema": b'"int"'}


@pytest.mark.parametrize(
    ("decode", "says"),
    [
        (
            {"kind": "avro", "schema": "/absent/pump.avsc"},
            "input: decode: schema /absent/pump.avsc cannot be read",
        ),
        ({"kind": "avro", "schema": 7}, "decode: schema 7 is no name of a file"),
        ({"kind": "avro", "schemas": {7: "/absent"}}, "decode: schemas 7 /absent cannot be read"),
        ({"kind": "protobuf", "descriptor": "/absent"}, "decode: descriptor /absent cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_option(decode: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(None, (), document(decode))


def test_the_registry_is_part_of_the_stream() -> None:
    section = {
        "url": "https://one:8081",
        "username": "reader",
        "password_file": "/run/secrets/registry",
        "ca_file": "/ca.pem",
        "timeout": "3s",
    }
    settings = load(None, (), document("avro", schema_registry=section))
    address = settings.schema_registry.address()
    assert address == RegistryAddress(
        ("https://one:8081",), "reader", "/run/secrets/registry", ca_file="/ca.pem", timeout_s=3.0
    )
    mapping = settings.streams[0].spec(address).input
    assert mapping is not None
    assert mapping.decode.registry == address
    assert load(None, (), document("avro")).schema_registry.address() is None
    several = load(None, (), document("avro", schema_registry={"url": ["http://a:1", "http://b:1/path"]}))
    assert several.schema_registry.address() == RegistryAddress(("http://a:1", "http://b:1/path"))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"url": "registry:8081"}, "'registry:8081' is not an address as https://registry:8081"),
        ({"url": "https://"}, "is not an address"),
        ({"url": "https://a:b@registry"}, "url holds a password: write username and password_file"),
        ({"url": "https://registry?x=1"}, "has more than an address and a path"),
        ({"url": "https://registry/a b"}, "has more than an address and a path"),
        ({"url": "https://registry:99999"}, "Port out of range"),
        ({"username": "a"}, "username and password_file come together"),
        ({"password_file": "a"}, "username and password_file come together"),
        (
            {"username": "a", "password_file": "b", "token_file": "c"},
            "username and token_file exclude each other",
        ),
        ({"key_file": "a"}, "key_file needs cert_file"),
        ({"url": "http://registry", "token_file": "a"}, "sent in the clear: use https"),
        ({"url": "http://127.evil.example", "token_file": "a"}, "sent in the clear: use https"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(None, (), document("avro", schema_registry=section))


def test_a_token_may_go_to_this_machine_in_the_clear() -> None:
    section = {"url": ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"], "token_file": "a"}
    assert load(None, (), document("avro", schema_registry=section)).schema_registry.address() is not None
