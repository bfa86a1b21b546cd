# SPDX-License-Identifier: BSD-3-Clause
"""Which master this machine builds for, and its key there.

    DIR/membership/master.json        all of it, for the owner only, and written as a whole or not at all
    DIR/membership/lock               locked by the service while it runs, and by whoever changes the above
    DIR/membership/certificates.pem   for pip: what the system trusts, and the master's certificate

    join      certificate (fingerprint in the token) -> key -> master.json
    load      what was joined; None where nothing was
    leave     the master is told, and all of it is forgotten here, also where the master is away

Nothing is sent to a server before its certificate was compared with the token, and a key goes to the
master that gave it, and to no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from piwheels_node.builder.machine.identity import this_machine
from piwheels_node.builder.trust import believed_by_pip
from piwheels_node.client import MasterClient
from piwheels_node.client.pinning import fetch_certificate, split_token
from piwheels_node.core.builders import BuilderState
from piwheels_node.core.errors import KeyRefusedError, MasterError, NodeError, StorageError, UsageError
from piwheels_node.core.messages import JoinRequest
from piwheels_node.core.places import MEMBERSHIP

_STATE = "master.json"
_LOCK = "lock"
_CERTIFICATES = "certificates.pem"
_ROOM_BYTES = 64 << 10


@dataclass(frozen=True)
class Membership:
    """A master that was joined, as `name`; `certificate` (PEM) is the one to believe, None: the system's."""

    url: str
    name: str
    key: str
    certificate: str | None = None

    @property
    def index_url(self) -> str:
        """The master's index, as pip is given it."""
        return f"{self.url}/simple/"


@dataclass(frozen=True)
class Joined:
    """What joining came to; `changed` is False where everything was so before."""

    membership: Membership
    state: BuilderState
    changed: bool


@dataclass(frozen=True)
class Left:
    """A master that was left; `untold` is why it does not know, None: it does."""

    membership: Membership
    untold: MasterError | None


def load(data: Path) -> Membership | None:
    """The master that was joined; None where none was. Raises StorageError where that cannot be read."""
    path = data / MEMBERSHIP / _STATE
    try:
        return Membership(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"what was joined cannot be read: {error.strerror}", where=str(path), hint="call it with sudo"
        ) from error
    except (ValueError, TypeError) as error:
        raise StorageError("what was joined cannot be read", where=str(path), hint="join again") from error


def join(data: Path, url: str, token: str, name: str) -> Joined:
    """Become a builder of the master at `url` by a join token, and remember it.

    Joining again changes nothing, and needs no use of a token. Raises MasterError where the master refuses,
    or is another one than the token is for; StorageError where nothing can be written: then nothing was sent.
    """
    secret, pin = split_token(token)
    url = _https(url)
    certificate = fetch_certificate(url, pin) if pin else None
    with _changing(data) as place:
        before = load(data)
        same = before is not None and (
            before.url == url or (certificate and before.certificate == certificate)
        )
        request = JoinRequest(
            token=secret, name=name, machine=this_machine(), key=before.key if before and same else None
        )
        with _room_for_state(place), MasterClient(url, certificate=certificate) as client:
            answer = client.join(request)
        after = Membership(url, answer.name, answer.key, certificate)
        if after != before:
            _write(place / _STATE, json.dumps(asdict(after), indent=1).encode(), 0o600)
    return Joined(after, answer.state, after != before)


def leave(data: Path) -> Left | None:
    """Tell the master, where it answers, and forget it; None where there was none."""
    if not (data / MEMBERSHIP / _STATE).exists():
        return None
    with _changing(data) as place:
        before, untold = load(data), None
        if before is None:
            return None
        try:
            with MasterClient(before.url, before.key, certificate=before.certificate) as client:
                client.leave()
        except KeyRefusedError:
            pass  # it knows already
        except MasterError as error:
            untold = error
        for name in (_STATE, _CERTIFICATES):
            (place / name).unlink(missing_ok=True)
    return Left(before, untold)


@contextlib.contextmanager
def serving(data: Path) -> Iterator[None]:
    """Hold the membership for a service; raises NodeError where another one runs, or somebody joins now."""
    with _changing(data):
        yield


def is_served(data: Path) -> bool:
    """True where a service of this builder runs."""
    try:
        with (data / MEMBERSHIP / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def certificates_for_pip(data: Path, membership: Membership) -> Path | None:
    """A file of all certificates to believe, for pip and downloads; None: what they believe anyway will do.

    It is made anew each time, since the system's own certificates change. Raises StorageError.
    """
    if membership.certificate is None:
        return None
    path = data / MEMBERSHIP / _CERTIFICATES
    _write(path, believed_by_pip() + b"\n" + membership.certificate.encode(), 0o644)
    return path


def is_named_by(certificate: str, url: str) -> bool:
    """True where a certificate has the host of a URL among its names: pip insists on that."""
    from cryptography import x509  # noqa: PLC0415 - 60 ms that only a start needs

    host = urlsplit(url).hostname or ""
    try:
        names = (
            x509.load_pem_x509_certificate(certificate.encode())
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
    except (ValueError, x509.ExtensionNotFound):
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    return host.lower() in {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def _https(url: str) -> str:
    """The URL as it is kept: HOST[:PORT] is taken for https."""
    url = url.strip().rstrip("/")
    if "://" not in url:
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        good = (
            parts.hostname
            and parts.port != 0
            and parts.path == ""
            and not parts.query
            and "@" not in parts.netloc
        )
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"'{url}' is not the URL of a master", hint="write https://HOST[:PORT]")
    return url


@contextlib.contextmanager
def _changing(data: Path) -> Iterator[Path]:
    """The directory of the membership, for the owner only, and ours alone."""
    place = data / MEMBERSHIP
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (place / _LOCK).open("ab")
        _give_to_owner(file.fileno(), place)
    except OSError as error:
        raise StorageError(
            f"the data directory cannot be used: {error.strerror}",
            where=str(place),
            hint="call it with sudo, or name another with --data DIR",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NodeError(
                "this builder's service is running",
                where=str(data),
                hint="stop it first, then call this again",
            ) from error
        yield place


@contextlib.contextmanager
def _room_for_state(place: Path) -> Iterator[None]:
    """Be sure that what will be written fits: a key that the master has given and we have lost is no use."""
    path = place / ".room"
    try:
        _write(path, b"\0" * _ROOM_BYTES, 0o600)
        yield
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    """The whole file or nothing, never for more eyes than `mode` says; raises StorageError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            _give_to_owner(descriptor, path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StorageError(f"this cannot be written: {error.strerror}", where=str(path)) from error


def _give_to_owner(descriptor: int, place: Path) -> None:
    """What root writes is for whoever the directory belongs to: the account of the builder's service."""
    if os.geteuid() == 0:
        owner = place.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
