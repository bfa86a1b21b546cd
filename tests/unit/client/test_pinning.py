# SPDX-License-Identifier: BSD-3-Clause
"""Certificates and join tokens: only the one server is believed, and nothing is sent to another."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from piwheels_node.client import MasterClient
from piwheels_node.client.pinning import fetch_certificate, fingerprint, join_token, split_token
from piwheels_node.core.errors import MasterError, MasterUnreachableError, UsageError
from piwheels_node.master.running.certificate import make_certificate

NOW = datetime.now(UTC)
SECRET = "f4Dk2bVw0aTjXe9mQhYs1g"


class Server:
    """A TLS server on loopback that notes what it is sent, and says nothing."""

    def __init__(self, place: Path, certificate: bytes, key: bytes, chain: bytes = b"") -> None:
        (place / "cert.pem").write_bytes(certificate + chain)
        (place / "cert.key").write_bytes(key)
        self.pem = certificate.decode()
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(place / "cert.pem", place / "cert.key")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    with self._context.wrap_socket(connection, server_side=True) as secure:
                        self.heard += secure.recv(65536)
                        secure.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def serve(tmp_path):
    """Starts servers, each with its own certificate, and ends them."""
    servers = []

    def start(certificate=None, key=None, **more):
        place = tmp_path / str(len(servers))
        place.mkdir()
        if certificate is None:
            certificate, key = make_certificate(["127.0.0.1", "localhost"], NOW)
        servers.append(Server(place, certificate, key, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def issued_by(authority, authority_key, name="127.0.0.1"):
    """A certificate that an authority has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(authority_key, hashes.SHA256())
    )
    return pem(certificate), pem_key(key)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_key(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def authority():
    """A certificate that may sign others, and its key as an object."""
    key = ec.generate_private_key(ec.SECP256R1())
    whom = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(whom)
        .issuer_name(whom)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def test_the_pinned_certificate_is_believed_and_the_key_arrives(serve):
    server = serve()

    with MasterClient(server.url, "the-key", certificate=server.pem) as client, pytest.raises(MasterError):
        client.status()

    assert b"Bearer the-key" in server.heard


def test_a_server_with_another_certificate_hears_nothing(serve):
    true, false = serve(), serve()

    with (
        MasterClient(false.url, "the-key", certificate=true.pem) as client,
        pytest.raises(MasterUnreachableError, match="not believed"),
    ):
        client.status()

    assert false.heard == b""


def test_without_a_pinned_certificate_the_system_decides(serve):
    server = serve()

    with (
        MasterClient(server.url, "the-key") as client,
        pytest.raises(MasterUnreachableError, match="not believed"),
    ):
        client.status()

    assert server.heard == b""


def test_what_a_pinned_authority_has_signed_is_not_the_pinned_certificate(serve):
    root, root_key = authority()
    server = serve(*issued_by(root, root_key))

    with (
        MasterClient(server.url, "the-key", certificate=pem(root).decode()) as client,
        pytest.raises(MasterUnreachableError, match="not believed"),
    ):
        client.status()

    assert server.heard == b""


def test_a_certificate_of_a_private_authority_can_be_pinned_by_itself(serve):
    server = serve(*issued_by(*authority()))

    with MasterClient(server.url, "the-key", certificate=server.pem) as client, pytest.raises(MasterError):
        client.status()

    assert b"Bearer the-key" in server.heard


def test_the_certificate_is_fetched_where_it_is_the_tokens(serve):
    server = serve()

    assert fetch_certificate(server.url, fingerprint(server.pem)) == server.pem


def test_a_man_in_the_middle_is_noticed_before_anything_is_sent(serve):
    true, middle = serve(), serve()

    with pytest.raises(MasterError, match="another server") as caught:
        fetch_certificate(middle.url, fingerprint(true.pem))

    assert fingerprint(middle.pem) in str(caught.value)
    assert middle.heard == b""


def test_nobody_there_and_no_tls_there_are_told_apart_from_a_wrong_certificate(serve):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(MasterUnreachableError):
        fetch_certificate(f"https://127.0.0.1:{port}", "0" * 64)
    with pytest.raises(UsageError, match="https"):
        fetch_certificate("http://127.0.0.1:1", "0" * 64)


def test_the_fingerprint_is_what_others_compute(serve):
    pem_text = make_certificate(["pi"], NOW)[0].decode()

    assert fingerprint(pem_text) == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem_text)).hexdigest()
    with pytest.raises(UsageError, match="not a certificate"):
        fingerprint("nonsense")


@pytest.mark.parametrize("of", [None, "ab" * 32])
def test_a_token_comes_apart_as_it_was_put_together(of):
    assert split_token(f" {join_token(SECRET, of)}\n") == (SECRET, of)


@pytest.mark.parametrize(
    "token",
    ["", "short", f"{SECRET}.", f"{SECRET}.abc", f"{SECRET}.{'ab' * 31}", f"a b{SECRET}", f".{'ab' * 32}"],
)
def test_what_is_no_token_is_refused_with_a_hint(token):
    with pytest.raises(UsageError, match="not a join token"):
        split_token(token)
