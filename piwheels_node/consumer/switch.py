# SPDX-License-Identifier: BSD-3-Clause
"""Pointing this machine's pip and uv to an index, and back: what was changed comes back byte for byte.

    /etc/xdg/pip/pip.conf    the package's own, where nobody had one and no later file hides it
    /etc/pip.conf            one line more, where it sets the same option and so would hide the above
    /etc/uv/uv.toml          the package's own, where nobody had one; another's is left alone
    /usr/local/share/ca-certificates    a master's own certificate, where one is given (`trust`)

    /etc/piwheels-node/changes.json     what was changed; beside what it is about, and for root alone to write

The note is written before the change: whoever is interrupted in between finds a note without a change, never
a change without a note. Files of users are never opened here.
This module imports only `core` and the consumer's own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from piwheels_node.consumer import pip_config, pip_files, trust, uv_config
from piwheels_node.consumer.pip_files import EXTRA, GLOBAL_SECTION, PipView, Surroundings
from piwheels_node.core.errors import NodeError, StorageError, UsageError
from piwheels_node.core.settings import SETTINGS_DIR

NOTE = Path(SETTINGS_DIR, "changes.json")
_PIP, _UV, _CERTIFICATE = "pip", "uv", "certificate"
_MAY_CHANGE = {
    _PIP: {str(pip_files.PACKAGE_FILE), str(pip_files.SYSTEM_FILE)},
    _UV: {str(uv_config.SYSTEM_FILE)},
}


@dataclass(frozen=True)
class Change:
    """One file that was changed for `url`.

    `put_in` is what was put into a file that was there, each character a byte (latin-1); empty: the whole
    file was made, and `directories` above it.
    """

    what: str
    path: str
    url: str
    put_in: str = ""
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of it, in sentences: what was changed, and what was left as it is, and why."""

    changed: tuple[str, ...]
    left: tuple[str, ...]


def index_url(text: str) -> str:
    """The URL of an index as it is written down; a master's own is taken for its index. Raises UsageError."""
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"'{text}' is no URL", hint="write https://HOST[:PORT]/simple/") from error
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or parts.query
        or parts.fragment
        or text.split() != [text]
    ):
        raise UsageError(f"'{text}' is not the URL of an index", hint="write https://HOST[:PORT]/simple/")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(
            "pip refuses plain HTTP to another machine",
            where=text,
            hint="https://, as masters and indexes have it",
        )
    path = "/simple/" if parts.path in {"", "/"} else parts.path.rstrip("/") + "/"
    return urlunsplit(parts._replace(path=path))


def enable(root: Path, url: str, certificate: str | None = None) -> Done:
    """Let everybody's pip and uv here ask an index too; `certificate` (PEM) is its own, to be believed.

    Done again it changes nothing; with another index it takes the former one back first. Raises NodeError
    where pip's files leave no place for it, StorageError where they cannot be written.
    """
    work = _Work(root)
    with _telling_why():
        if any(one.url != url for one in work.changes):
            work.take_all_back()
        if certificate:
            work.enable_trust(url, certificate)
        work.enable_pip(url)
        work.enable_uv(url, trusts_system=certificate is not None)
    return work.done()


def disable(root: Path) -> Done:
    """Take back what `enable` did, and the package's own files; a line that others wrote stays.

    Raises NodeError where a line cannot be taken out, StorageError where a file cannot be written.
    """
    work = _Work(root)
    with _telling_why():
        work.take_all_back()
        work.remove_own_files()
    if decided := pip_files.look_at_system(root).decision(EXTRA):
        work.left.append(f"{decided.source.name} still sets {EXTRA} = {' '.join(decided.value.split())}")
    return work.done()


def noted(root: Path) -> tuple[Change, ...]:
    """What was changed; nothing where the note is missing. Raises StorageError where it cannot be read."""
    try:
        listed = json.loads(_real(root, NOTE).read_bytes())
        changes = [Change(**{**one, "directories": tuple(one["directories"])}) for one in listed]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            "the note of what was changed for pip cannot be read",
            where=str(NOTE),
            hint="remove it, and look at `piwheels-node pip status`",
        ) from error
    return tuple(
        one for one in changes if one.what == _CERTIFICATE or one.path in _MAY_CHANGE.get(one.what, set())
    )


class _Work:
    """Changes as they are made, noted one by one; and what there is to say of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changes = list(noted(root))
        self.changed: list[str] = []
        self.left: list[str] = []
        self._made_directory = not (root / NOTE.parent.relative_to("/")).exists()

    def done(self) -> Done:
        return Done(tuple(self.changed), tuple(self.left))

    def enable_pip(self, url: str) -> None:
        view = pip_files.look_at_system(self.root)
        _check(view)
        if view.uses(url):
            decided = view.decision(EXTRA) or view.decision(pip_files.INDEX)
            self.left.append(f"pip uses it already, by {decided.source.name if decided else 'itself'}")
            return
        path = _place(view)
        content = _read(self.root, path)
        if content is None or pip_config.is_own_file(content):
            after, put_in, words = pip_config.own_file(url), "", "is made"
        else:
            after = pip_config.added(content, url, str(path))
            put_in = pip_config.inserted(content, after).decode("latin-1")
            words = "has one line more, the rest is as it was"
        self._write(_PIP, path, url, after, put_in=put_in)
        self.changed.append(f"{path} {words}")

    def enable_uv(self, url: str, *, trusts_system: bool) -> None:
        view = uv_config.look(Surroundings(self.root, Path("/nonexistent")))
        name, path = view.files[0].name, uv_config.SYSTEM_FILE
        if view.uses(url):
            self.left.append(f"uv uses it already, by {name}")
            return
        content = _read(self.root, path)
        if name != str(path) or (content is not None and not uv_config.is_own_file(content)):
            strategy = f'index-strategy = "{uv_config.STRATEGY}"'
            self.left.append(
                f"{name} is somebody else's: for uv, add {strategy} to it,"
                f' and an [[index]] with url = "{url}"'
            )
            return
        self._write(_UV, path, url, uv_config.own_file(url, trusts_system=trusts_system))
        self.changed.append(f"{path} is made")

    def enable_trust(self, url: str, certificate: str) -> None:
        path = trust.place(urlsplit(url).hostname or "")
        if _read(self.root, path) == certificate.encode():
            return
        trust.check(self.root)
        self._write(_CERTIFICATE, path, url, certificate.encode())
        trust.renew(self.root)
        self.changed.append(f"{path} is made: this machine believes that certificate for the names in it")

    def take_all_back(self) -> None:
        for change in reversed(self.changes.copy()):
            self._take_back(change)
            self.changes.remove(change)
            self._note()

    def remove_own_files(self) -> None:
        """Those that the package's installation put there."""
        for path, is_own in (
            (pip_files.PACKAGE_FILE, pip_config.is_own_file),
            (uv_config.SYSTEM_FILE, uv_config.is_own_file),
        ):
            content = _read(self.root, path)
            if content is not None and is_own(content):
                _real(self.root, path).unlink()
                self.changed.append(f"{path} is taken away")

    def _take_back(self, change: Change) -> None:
        path = Path(change.path)
        self._made_directory |= str(NOTE.parent) in change.directories
        content = _read(self.root, path)
        if content is None:
            return
        if change.what == _CERTIFICATE:
            _remove(self.root, path, change.directories)
            trust.renew(self.root, without=True)
            self.changed.append(f"{path} is taken away")
            return
        is_own = pip_config.is_own_file if change.what == _PIP else uv_config.is_own_file
        if not change.put_in and is_own(content):
            _remove(self.root, path, change.directories)
            self.changed.append(f"{path} is taken away")
        elif change.what == _PIP:
            after = pip_config.removed(content, change.url, change.put_in.encode("latin-1"), str(path))
            if after != content:
                _write(self.root, path, after)
                self.changed.append(f"{path} has that line less, the rest is as it was")
        else:
            self.left.append(f"{path} stays: somebody has changed it since it was made")

    def _write(self, what: str, path: Path, url: str, content: bytes, *, put_in: str = "") -> None:
        """Note a change, then make it."""
        directories = (*_missing_directories(self.root, path), *_missing_directories(self.root, NOTE))
        self.changes = [one for one in self.changes if one.path != str(path)]
        self.changes.append(Change(what, str(path), url, put_in, directories))
        self._note()
        _write(self.root, path, content)

    def _note(self) -> None:
        """Write down what was changed; no file where that is nothing."""
        if self.changes:
            listed = [asdict(one) for one in self.changes]
            _write(self.root, NOTE, json.dumps(listed, indent=1).encode() + b"\n")
            return
        _real(self.root, NOTE).unlink(missing_ok=True)
        if self._made_directory:
            with contextlib.suppress(OSError):  # settings are in it by now
                _real(self.root, NOTE.parent).rmdir()


def _check(view: PipView) -> None:
    """Raise NodeError where no line in [global] would have an effect."""
    if view.broken:
        raise NodeError(
            f"pip cannot read its configuration: {view.broken.error}",
            where=view.broken.name,
            hint="mend that file first: pip stops at it with every command",
        )
    if (decided := view.decision(EXTRA)) and decided.section != GLOBAL_SECTION:
        raise NodeError(
            f"[{decided.section}] sets {EXTRA}, which hides every other place",
            where=decided.source.name,
            hint="move that line to [global], or add the index to it by hand",
        )
    if view.no_index and (decided := view.decision(pip_files.NO_INDEX)):
        raise NodeError(
            "pip is told to ask no index at all", where=decided.source.name, hint="take no-index out of it"
        )


def _place(view: PipView) -> Path:
    """The file that decides, also by an empty value; the package's own where none does."""
    said = [source for source in view.sources if (GLOBAL_SECTION, EXTRA) in source.values]
    return Path(said[-1].name) if said else pip_files.PACKAGE_FILE


def _real(root: Path, path: Path) -> Path:
    """Where a file lies, a link to it followed: what it leads to is changed, the link stays."""
    real = root / path.relative_to("/")
    return real.resolve() if real.is_symlink() else real


def _read(root: Path, path: Path) -> bytes | None:
    try:
        return _real(root, path).read_bytes()
    except FileNotFoundError:
        return None


def _missing_directories(root: Path, path: Path) -> tuple[str, ...]:
    """The directories above a file that are not there yet, the innermost first."""
    return tuple(str(one) for one in path.parents if not (root / one.relative_to("/")).exists())


def _write(root: Path, path: Path, content: bytes) -> None:
    """The whole file or nothing; mode and owner stay, a new one is for everybody to read."""
    real = _real(root, path)
    for directory in reversed(_missing_directories(root, path)):
        made = root / directory.lstrip("/")
        made.mkdir()
        made.chmod(0o755)
    beside = real.with_name(f".{real.name}.piwheels-node")
    try:
        with beside.open("wb") as file:
            if real.exists():
                found = real.stat()
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
                os.fchmod(file.fileno(), found.st_mode & 0o7777)
            else:
                os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(real)
    finally:
        beside.unlink(missing_ok=True)


def _remove(root: Path, path: Path, directories: Sequence[str]) -> None:
    _real(root, path).unlink()
    for directory in directories:
        with contextlib.suppress(OSError):  # somebody else uses it by now
            (root / directory.lstrip("/")).rmdir()


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def _telling_why() -> Iterator[None]:
    """Files that cannot be changed are a StorageError."""
    try:
        yield
    except OSError as error:
        denied = isinstance(error, PermissionError)
        raise StorageError(
            f"this cannot be changed: {error.strerror}",
            where=str(error.filename) if error.filename else None,
            hint="call it with sudo" if denied else None,
        ) from error
