# SPDX-License-Identifier: BSD-3-Clause
"""The master's own certificate: what is in it, who may read it, and when it is served."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from piwheels_node.core.errors import NodeError, SettingsError
from piwheels_node.core.places import CERTIFICATE, CERTIFICATE_KEY
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.running.certificate import (
    keep_certificate,
    make_certificate,
    names_of_this_machine,
    pinned_fingerprint,
    serving_files,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "keys").mkdir()
    return tmp_path


def settings(**master):
    return dataclasses.replace(Settings(), master=MasterSettings(**master))


def handshake(made, name, place: Path, flags=0):
    """Do one handshake in memory, as a client that looks at names and authorities, as pip does."""
    (place / "s.pem").write_bytes(made[0])
    (place / "s.key").write_bytes(made[1])
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(place / "s.pem", place / "s.key")
    context = ssl.create_default_context(cadata=made[0].decode())
    context.verify_flags |= flags
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", ["farm.local", "192.0.2.7", "fd00::7"])
@pytest.mark.parametrize("flags", [0, ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN])
def test_pip_would_believe_it_also_with_the_strict_rules_of_python_3_13(name, flags, tmp_path):
    made = make_certificate(["farm.local", "192.0.2.7", "fd00::7"], NOW)

    handshake(made, name, tmp_path, flags)


def test_another_name_is_not_in_it(tmp_path):
    made = make_certificate(["farm.local"], NOW)

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(made, "other.local", tmp_path)


def test_it_can_sign_no_others_and_outlives_the_farm_and_a_clock_in_the_past():
    certificate = x509.load_pem_x509_certificate(make_certificate(["pi"], NOW)[0])

    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_before_utc < NOW - timedelta(days=5 * 365)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=10 * 365)


def test_a_name_that_no_machine_has_is_refused():
    with pytest.raises(NodeError, match="not a name"):
        make_certificate(["pí"], NOW)


def test_it_has_the_names_that_this_machine_is_called_by():
    names = names_of_this_machine()

    assert {socket.gethostname(), "localhost", "127.0.0.1", "::1"} <= set(names)
    make_certificate(names, NOW)


def test_it_is_made_once_and_its_key_is_for_the_owner_only(data):
    assert keep_certificate(data, ["pi"], NOW)
    made = (data / CERTIFICATE).read_bytes(), (data / CERTIFICATE_KEY).read_bytes()

    assert not keep_certificate(data, ["other"], NOW)
    assert ((data / CERTIFICATE).read_bytes(), (data / CERTIFICATE_KEY).read_bytes()) == made
    assert stat.S_IMODE((data / CERTIFICATE_KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE((data / CERTIFICATE).stat().st_mode) == 0o644
    assert sorted(path.name for path in data.rglob("*.*")) == ["certificate.key", "certificate.pem"]


def test_a_common_name_may_be_too_long_for_the_standard():
    make_certificate([f"{'a' * 60}.{'b' * 60}"], NOW)


def test_which_certificate_is_served(data):
    ours = data / CERTIFICATE, data / CERTIFICATE_KEY

    assert serving_files(data, settings()) is None
    assert serving_files(data, settings(host="0.0.0.0", proxied=True)) is None
    with pytest.raises(NodeError, match="needs a certificate") as caught:
        serving_files(data, settings(host="0.0.0.0"))
    assert "master init" in str(caught.value)

    keep_certificate(data, ["pi"], NOW)
    assert serving_files(data, settings()) == ours
    assert serving_files(data, settings(host="0.0.0.0")) == ours
    assert serving_files(data, settings(host="0.0.0.0", proxied=True)) is None
    named = settings(certificate="/etc/c.pem", certificate_key="/etc/c.key")
    assert serving_files(data, named) == (Path("/etc/c.pem"), Path("/etc/c.key"))
    with pytest.raises(SettingsError, match="together"):
        serving_files(data, settings(certificate="/etc/c.pem"))


def test_tokens_name_a_certificate_that_vouches_for_itself(data):
    assert pinned_fingerprint(data, settings()) is None

    keep_certificate(data, ["pi"], NOW)
    der = ssl.PEM_cert_to_DER_cert((data / CERTIFICATE).read_text())

    assert pinned_fingerprint(data, settings()) == hashlib.sha256(der).hexdigest()
    with pytest.raises(NodeError, match="cannot be read"):
        pinned_fingerprint(data, settings(certificate=str(data / "no.pem"), certificate_key="x"))
