# SPDX-License-Identifier: BSD-3-Clause
"""The master's own certificate: made once, known by its fingerprint, served by the web server.

It is self-signed and no authority's, so it vouches for itself only. Builders pin it (`client.pinning`); pip
on a builder gets it as a file and looks at the names in it, so they are those that the machine is called by.
It begins in the past and lasts ten years: a Pi has no clock of its own, and wakes up in the past.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from piwheels_node.core.errors import NodeError, SettingsError, StorageError
from piwheels_node.core.places import CERTIFICATE, CERTIFICATE_KEY
from piwheels_node.core.settings import Settings

_BEGINS = datetime(2020, 1, 1, tzinfo=UTC)
_LASTS = timedelta(days=3653)
_LONGEST_COMMON_NAME = 64
_NOWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Documentation addresses (RFC 5737, 3849): the way to them is the way to everywhere."""


def make_certificate(names: Iterable[str], now: datetime) -> tuple[bytes, bytes]:
    """A certificate for host names and addresses, and its key, both as PEM (EC P-256)."""
    called = list(dict.fromkeys(names))
    key = ec.generate_private_key(ec.SECP256R1())
    whom = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called[0][:_LONGEST_COMMON_NAME])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(whom)
        .issuer_name(whom)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGINS)
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in called]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def keep_certificate(data: Path, names: Iterable[str], now: datetime) -> bool:
    """Make the certificate of a data directory where it has none; True where it was made.

    The key is for the owner only. `keys/` must be there. Raises StorageError where they cannot be written.
    """
    if (data / CERTIFICATE).exists() and (data / CERTIFICATE_KEY).exists():
        return False
    certificate, key = make_certificate(names, now)
    try:
        _write(data / CERTIFICATE_KEY, key, 0o600)
        _write(data / CERTIFICATE, certificate, 0o644)
    except OSError as error:
        raise StorageError(
            f"the certificate cannot be written: {error.strerror}", where=str(data / CERTIFICATE)
        ) from error
    return True


def names_of_this_machine() -> list[str]:
    """What others may call this machine: host name, that with .local (mDNS), its addresses, localhost."""
    host = socket.gethostname()
    short = host.partition(".")[0]
    names = [host, socket.getfqdn(), short, f"{short}.local", *_addresses(), "localhost", "127.0.0.1", "::1"]
    return [name for name in dict.fromkeys(names) if _is_name(name)]


def names_in(certificate: bytes) -> list[str]:
    """The host names and addresses in a certificate (PEM)."""
    found = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    addresses = found.value.get_values_for_type(x509.IPAddress)
    return [*found.value.get_values_for_type(x509.DNSName), *map(str, addresses)]


def serving_files(data: Path, settings: Settings) -> tuple[Path, Path] | None:
    """The certificate and the key to serve HTTPS with; None: plain HTTP.

    Plain HTTP is for a master behind a web server (`master.proxied`), and for one that only this machine can
    reach and that has no certificate. Raises SettingsError or NodeError where there ought to be one.
    """
    master = settings.master
    if master.proxied:
        return None
    if bool(master.certificate) != bool(master.certificate_key):
        raise SettingsError(
            "a certificate and its key are served together, or neither",
            where="master.certificate, master.certificate_key",
        )
    if master.certificate:
        return Path(master.certificate), Path(master.certificate_key)
    if (data / CERTIFICATE).exists():
        return data / CERTIFICATE, data / CERTIFICATE_KEY
    if is_loopback(master.host):
        return None
    raise NodeError(
        "a master that others can reach needs a certificate",
        where=f"{master.host} is not only this machine",
        hint=f"piwheels-node master init --data {data}, or set master.proxied behind a web server",
    )


def pinned_fingerprint(data: Path, settings: Settings) -> str | None:
    """The fingerprint for join tokens; None where the system's authorities judge what is served."""
    files = serving_files(data, settings)
    if files is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    except (OSError, ValueError) as error:
        raise NodeError("the certificate cannot be read", where=str(files[0]), hint=str(error)) from error
    if certificate.issuer != certificate.subject:
        return None
    return certificate.fingerprint(hashes.SHA256()).hex()


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usage() -> x509.KeyUsage:
    """Signing of handshakes only."""
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
    names += " key_cert_sign crl_sign encipher_only decipher_only"
    return x509.KeyUsage(**{name: name == "digital_signature" for name in names.split()})


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise NodeError(
            "this is not a name for a machine", where=name, hint="plain letters, or xn--"
        ) from error


def _is_name(name: str) -> bool:
    return bool(name) and name.isascii() and not any(one.isspace() for one in name)


def _addresses() -> list[str]:
    """The addresses that this machine has towards everywhere; nothing is sent to find them."""
    found = []
    for there, family in _NOWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((there, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue  # no network of this family
    return found


def _write(path: Path, content: bytes, mode: int) -> None:
    """The whole file or none of it, and never for a moment with a wider mode."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    beside.rename(path)
