"""The connection to a registry: credentials, TLS, several addresses, and every way in which it does not answer."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from daemon.adapters.schemas import http as module
from daemon.adapters.schemas.http import RegistryConnection, RegistryError
from daemon.errors import ConfigError
from daemon.mapping import RegistryAddress
from tests.broker import free_port
from tests.registry import Registry, certificate


def basic(user: str, password: str) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def secret(folder: Path, content: str) -> str:
    """A file with a secret."""
    file = folder / "secret"
    file.write_text(content)
    return str(file)


# ------------------------------------------------------------------ as whom
def test_a_password_is_read_from_its_file_for_each_connection(registry: Registry, tmp_path: Path) -> None:
    registry.credentials = basic("reader", "pässword: 1")
    file = secret(tmp_path, "wrong\n")
    connection = RegistryConnection(RegistryAddress((registry.url,), "reader", password_file=file))
    with pytest.raises(RegistryError, match=r"refuses the credentials \(401\)"):
        connection.get("/subjects")
    secret(tmp_path, "pässword: 1\n")
    assert connection.get("/subjects") == (200, [])
    Path(file).unlink()
    assert connection.get("/subjects") == (200, [])  # the connection is open still
    registry.stop()
    registry.start()
    with pytest.raises(RegistryError, match=r"schema_registry.password_file .* cannot be read"):
        connection.get("/subjects")


def test_a_token_is_sent(registry: Registry, tmp_path: Path) -> None:
    registry.credentials = "Bearer a.b.c"
    with pytest.raises(RegistryError, match=r"wants credentials \(401\)"):
        RegistryConnection(RegistryAddress((registry.url,))).get("/subjects")
    file = secret(tmp_path, "a.b.c\n")
    assert RegistryConnection(RegistryAddress((registry.url,), token_file=file)).get("/subjects")[0] == 200


@pytest.mark.parametrize("content", ["", "two words", "a\nX-Header: b"])
def test_a_file_that_holds_no_token_is_refused_at_start(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match="holds no token"):
        RegistryConnection(RegistryAddress(("http://localhost:1",), token_file=secret(tmp_path, content)))


def test_a_file_that_is_missing_is_refused_at_start(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for address in (
        RegistryAddress(("http://localhost:1",), "reader", password_file=absent),
        RegistryAddress(("https://localhost:1",), ca_file=absent),
        RegistryAddress(("https://localhost:1",), cert_file=absent),
    ):
        with pytest.raises(ConfigError, match=r"schema_registry\..*_file .*absent cannot be read"):
            RegistryConnection(address)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        RegistryConnection(
            RegistryAddress(("http://localhost:1",), "a", password_file=str(tmp_path / "bytes"))
        )


def test_tls_with_a_certificate_that_is_trusted_by_its_file(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "server")
    own_cert, own_key = certificate(tmp_path / "client")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    tls.load_verify_locations(own_cert)
    tls.verify_mode = ssl.CERT_REQUIRED
    with Registry(tls=tls) as registry:
        url = (registry.url,)
        with pytest.raises(RegistryError, match="its certificate is not trusted: self-signed"):
            RegistryConnection(RegistryAddress(url)).get("/subjects")
        with pytest.raises(RegistryError):
            RegistryConnection(RegistryAddress(url, ca_file=str(cert))).get("/subjects")
        address = RegistryAddress(url, ca_file=str(cert), cert_file=str(own_cert), key_file=str(own_key))
        assert RegistryConnection(address).get("/subjects") == (200, [])
    with pytest.raises(ConfigError, match="do not make a TLS context"):
        RegistryConnection(RegistryAddress(url, ca_file=str(key)))
    with pytest.raises(ConfigError, match="do not make a TLS context"):
        RegistryConnection(RegistryAddress(url, cert_file=str(own_cert), key_file=str(key)))


def test_an_encrypted_key_is_refused_without_asking_the_terminal(tmp_path: Path) -> None:
    import subprocess

    cert, key = certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", str(key), "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="do not make a TLS context"):
        RegistryConnection(
            RegistryAddress(("https://localhost:1",), cert_file=str(cert), key_file=str(locked))
        )


# ------------------------------------------------------------------ whether it answers
def test_the_next_address_is_asked_where_one_does_not_answer(registry: Registry) -> None:
    nobody = f"http://localhost:{free_port()}"
    connection = RegistryConnection(RegistryAddress((nobody, registry.url)))
    assert connection.get("/subjects") == (200, [])
    with Registry(broken=(503, b"")) as broken:
        assert RegistryConnection(RegistryAddress((broken.url, registry.url))).get("/subjects") == (200, [])
        with pytest.raises(RegistryError) as failed:
            RegistryConnection(RegistryAddress((nobody, broken.url))).get("/subjects")
    assert "Connection refused" in str(failed.value)
    assert "answers 503" in str(failed.value)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ((500, b'{"error_code": 50001, "message": "store\\ntimed out"}'), "answers 500: store timed out"),
        ((429, b""), "answers 429"),
        ((302, b""), "answers 302"),
        ((200, b"[" * 200_000), "no JSON"),
        ((403, b""), r"wants credentials \(403\)"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(
    registry: Registry, broken: tuple[int, bytes], says: str
) -> None:
    registry.broken = broken
    with pytest.raises(RegistryError, match=says):
        RegistryConnection(RegistryAddress((registry.url,))).get("/schemas/ids/1")


def test_a_question_that_is_refused_is_answered(registry: Registry) -> None:
    registry.broken = 422, b'{"error_code": 42202}'
    assert RegistryConnection(RegistryAddress((registry.url,))).get("/x") == (422, {"error_code": 42202})
    registry.broken = 501, b""
    assert RegistryConnection(RegistryAddress((registry.url,))).get("/x") == (501, None)


def test_an_answer_without_end_is_cut_off(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    registry.broken = 200, b" " * 100_000
    with pytest.raises(RegistryError, match="over 1000 bytes"):
        RegistryConnection(RegistryAddress((registry.url,))).get("/subjects")


def test_a_registry_that_never_answers_is_given_up(registry: Registry) -> None:
    registry.silent = True
    with pytest.raises(RegistryError, match="no answer in time"):
        RegistryConnection(RegistryAddress((registry.url,), timeout_s=0.2)).get("/subjects")


def test_a_connection_that_the_registry_has_closed_is_made_anew(registry: Registry) -> None:
    connection = RegistryConnection(RegistryAddress((registry.url,)))
    assert connection.get("/subjects") == (200, [])
    registry.stop()
    with pytest.raises(RegistryError):
        connection.get("/subjects")
    registry.start()
    assert connection.get("/subjects") == (200, [])


def test_a_path_of_the_address_comes_before_that_of_the_question(registry: Registry) -> None:
    registry.path = "/apis/ccompat/v7"
    assert RegistryConnection(RegistryAddress((registry.url + "/",))).get("/subjects") == (200, [])
    assert registry.asked == ["/apis/ccompat/v7/subjects"]
