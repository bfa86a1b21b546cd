# SPDX-License-Identifier: BSD-3-Clause
"""Build roots that are made here: a Debian of another release or architecture, below the builder's directory.

    ROOTS/NAME/root.json        what it is, and which version of it is current
    ROOTS/NAME/IDENTITY/        a version: usr, etc, what dpkg knows; read-only for builds

mmdebstrap makes a root as an archive, as root or as an ordinary user in a namespace; the archive is unpacked
as plain files of the builder's own (`unpack.py`): no devices, no set-id files, no documentation. Nobody ever
becomes root in it. A root never changes: updating it makes another version, and the old one goes when nobody
builds in it any more. Who builds in a version holds a shared lock (flock) of its directory.

The mirror is the one that the machine's own apt uses, unless another is named.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.roots.tree import Tree
from piwheels_node.builder.roots.unpack import Bounds, link_tops, unpack
from piwheels_node.core.errors import BuildError, NodeError, UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_WORD = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_PACKAGES = ("build-essential", "ca-certificates", "pkg-config", "python3-dev")
"""What a Raspberry Pi OS Lite has for building, and a build needs."""

_ORIGINS = frozenset({"Debian", "Raspbian"})
_LIST = re.compile(r"^'([^']+/)dists/([^']+)/InRelease' ", re.MULTILINE)
_TAKEN = ("usr", "etc", "var/lib/dpkg")
_BOUNDS = Bounds(size_bytes=16 << 30, members=2_000_000)
_ABOUT, _PART = "root.json", ".part-"
_SAID_LINES = 3
_SAID_BYTES = 500
_CANNOT_RUN = re.compile(r"cannot be executed|arch-test|qemu", re.IGNORECASE)
_CANNOT_MAP = re.compile(r"subuid|subgid|newuidmap|uidmap|unprivileged|unshare", re.IGNORECASE)
_TIMEOUT_S = 60


@dataclass(frozen=True)
class MadeRoot:
    """A root that was made here. `identity` (64 hex digits) names all that is installed in it."""

    name: str
    release: str
    arch: str
    mirror: str
    packages: tuple[str, ...]
    identity: str
    made_at: str

    @property
    def version(self) -> str:
        """The name of its directory."""
        return self.identity[:16]


class MadeRoots:
    """The roots below one directory. Several processes may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._used: list[int] = []

    def all(self) -> list[MadeRoot]:
        """All roots, by name."""
        found = []
        for about in sorted(self.directory.glob(f"*/{_ABOUT}")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                said = json.loads(about.read_text())
                root = MadeRoot(**{**said, "packages": tuple(said["packages"])})
                if self.tree(root).usr.is_dir():
                    found.append(root)
        return found

    def get(self, name: str) -> MadeRoot:
        """The root of that name; raises UsageError where there is none."""
        made = {root.name: root for root in self.all()}
        if name not in made:
            raise UsageError(
                f"there is no build root '{name}'",
                where=str(self.directory),
                hint=f"one of {', '.join(made)}" if made else "piwheels-node builder root create NAME",
            )
        return made[name]

    def tree(self, root: MadeRoot) -> Tree:
        """Its files."""
        return Tree(root.name, self.directory / root.name / root.version)

    def use(self) -> Sequence[Tree]:
        """The current version of each root; they stay where they are until `close`."""
        trees = [self.tree(root) for root in self.all()]
        for tree in trees:
            descriptor = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._used.append(descriptor)
        return trees

    def close(self) -> None:
        """Let go of the versions in use."""
        while self._used:
            os.close(self._used.pop())

    # --- making ------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        release: str,
        *,
        arch: str = "",
        mirror: str = "",
        packages: Sequence[str] = (),
        now: datetime,
        say: Callable[[str], None],
    ) -> MadeRoot:
        """Make a root; what is done is told to `say`, line by line. Raises UsageError and NodeError.

        `release` is Debian's codename, `arch` its name of an architecture (empty: this machine's), `mirror` a
        URL (empty: the machine's own), `packages` are added to what builds need.
        """
        if not _NAME.fullmatch(name) or name == "host":
            raise UsageError(
                f"'{name}' is no name for a build root", hint="small letters, digits, dot and dash"
            )
        for word in (release, *packages, *([arch] if arch else [])):
            if not _WORD.fullmatch(word):
                raise UsageError(f"'{word}' is no name that Debian has")
        if (self.directory / name / _ABOUT).exists():
            raise UsageError(
                f"there is a build root '{name}' already", hint=f"piwheels-node builder root update {name}"
            )
        about = MadeRoot(name, release, arch or _own_arch(), mirror, tuple(packages), "", now.isoformat())
        with self._alone(name):
            return self._make(about, say)

    def update(self, name: str, *, now: datetime, say: Callable[[str], None]) -> tuple[MadeRoot, bool]:
        """Make the root anew, from the packages of today; False where nothing in it has changed."""
        with self._alone(name):
            old = self.get(name)
            new = self._make(MadeRoot(**{**asdict(old), "made_at": now.isoformat()}), say)
            self._sweep(new)
        return new, new.identity != old.identity

    def remove(self, name: str) -> None:
        """Remove a root; raises NodeError while a builder uses it."""
        with self._alone(name):
            root = self.get(name)
            with self._exclusive(self.tree(root).path) as free:
                if not free:
                    raise NodeError(
                        f"a builder uses the build root '{name}'",
                        where=str(self.tree(root).path),
                        hint="stop the builder's service first",
                    )
                (self.directory / name / _ABOUT).unlink()
            remove_tree(self.directory / name)

    def _make(self, about: MadeRoot, say: Callable[[str], None]) -> MadeRoot:
        place = self.directory / about.name
        for left in place.glob(f"{_PART}*"):
            remove_tree(left)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=place))
        try:
            part.chmod(0o755)
            _bootstrap(about, part, say)
            tree = Tree(about.name, part)
            made = MadeRoot(**{**asdict(about), "identity": tree.identity()})
            if not made.identity or not tree.usr.is_dir():
                raise NodeError("what mmdebstrap made is no Debian", where=about.name)
            if not self.tree(made).path.exists():
                part.rename(self.tree(made).path)
        finally:
            remove_tree(part)
        note = place / f"{_ABOUT}.part"
        note.write_text(json.dumps(asdict(made), indent=2))
        note.replace(place / _ABOUT)
        return made

    def _sweep(self, current: MadeRoot) -> None:
        """Remove versions that nobody uses any more."""
        for old in (self.directory / current.name).iterdir():
            if old.is_dir() and old.name != current.version:
                with self._exclusive(old) as free:
                    if free:
                        remove_tree(old)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Be the only one who makes this root."""
        place = self.directory / name
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._exclusive(place) as free:
            if not free:
                raise NodeError(f"the build root '{name}' is being made just now", where=str(place))
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    place.rmdir()  # nothing came of it

    @contextmanager
    def _exclusive(self, place: Path) -> Iterator[bool]:
        """Hold a directory alone; False where somebody else has it."""
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)


def _bootstrap(about: MadeRoot, directory: Path, say: Callable[[str], None]) -> None:
    """Have mmdebstrap make the root as an archive, and unpack that as it comes."""
    if not shutil.which("mmdebstrap"):
        raise NodeError("mmdebstrap is not installed", hint="sudo apt install mmdebstrap")
    with subprocess.Popen(
        _mmdebstrap(about),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        last: list[str] = []
        hearing = threading.Thread(target=_hear, args=(process.stderr, say, last), daemon=True)
        hearing.start()
        why = ""
        try:
            unpack(process.stdout, directory, halt=Halt(), bounds=_BOUNDS, only=_TAKEN)
        except BuildError as error:
            why = error.what
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # somebody wants it to end now
            raise
        finally:
            process.stdout.close()
            code = _end(process)
        hearing.join(_TIMEOUT_S)
    if code != 0:
        why = f"mmdebstrap ended with {code}"
    if why:
        raise _not_made(about, last, why)
    link_tops(directory)


def _mmdebstrap(about: MadeRoot) -> list[str]:
    command = ["mmdebstrap", "--format=tar", "--variant=apt", f"--architectures={about.arch}"]
    command += [f"--include={','.join([*_PACKAGES, *about.packages])}"]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"']
    command += ["--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man", "info")]
    return [*command, about.release, "-", *sources(about.release, about.mirror)]


def _end(process: subprocess.Popen[bytes]) -> int:
    """Let mmdebstrap end by itself: it removes what it has made and mounted. Its exit code."""
    try:
        return process.wait(_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        return process.wait()


def _hear(stream: IO[bytes], say: Callable[[str], None], last: list[str]) -> None:
    """Pass on what mmdebstrap says, and keep the newest of it: of errors, where there were any."""
    for line in stream:
        text = line.decode(errors="replace").strip()
        if text:
            errors = [one for one in [*last, text] if one.startswith("E: ")]
            last[:] = (errors or [*last, text])[-_SAID_LINES:]
            say(text)


def _not_made(about: MadeRoot, last: Sequence[str], why: str) -> NodeError:
    said = " / ".join(last)[-_SAID_BYTES:]
    hint = "what it said above tells why; --mirror URL names another mirror"
    if _CANNOT_RUN.search(said):
        hint = f"programs for {about.arch} must run here: sudo apt install qemu-user-static arch-test"
    elif os.geteuid() != 0 and _CANNOT_MAP.search(said):
        hint = "an ordinary user needs: sudo apt install uidmap"
    return NodeError(f"the build root '{about.name}' could not be made: {why}", where=said, hint=hint)


def sources(release: str, mirror: str = "") -> list[str]:
    """Lines of apt sources for a release, from the mirror: by default the one of the machine's own apt.

    Where that is of a Debian with updates and security fixes in places of their own, so are these.
    """
    if mirror:
        return [f"deb {mirror} {release} main"]
    listed = _listed() or _named()
    own = next((suite for _, suite in listed if "-" not in suite and "/" not in suite), None)
    if own is None:
        raise NodeError(
            "this machine's apt has no Debian mirror that could be used",
            where="apt-get indextargets",
            hint="sudo apt update, or name one with --mirror URL",
        )
    suffixes = {suite.removeprefix(own): url for url, suite in listed if suite.startswith(own)}
    kept = {suffix: url for suffix, url in suffixes.items() if suffix in {"", "-updates", "-security"}}
    return [f"deb {url} {release}{suffix} main" for suffix, url in sorted(kept.items())]


def _listed() -> list[tuple[str, str]]:
    """Where this machine's apt has lists of Debian from, by what the lists say of themselves: URL, suite."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    found = []
    for line in _output(["apt-get", "indextargets", "--format", form, "Identifier: Packages"]).splitlines():
        origin, url, suite, component = (*line.split("|"), "", "", "")[:4]
        if component == "main" and origin in _ORIGINS:
            found.append((url, suite))
    return found


def _named() -> list[tuple[str, str]]:
    """Where apt would fetch lists from, where it has none yet: URL, suite; its first sources come first."""
    return _LIST.findall(_output(["apt-get", "update", "--print-uris", "-o", "Debug::NoLocking=true"]))


def _own_arch() -> str:
    return _output(["dpkg", "--print-architecture"]).strip()


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        ).stdout
    except OSError as error:
        raise NodeError(
            f"{command[0]} cannot be run: {error.strerror}", hint="builders run on Debian"
        ) from error
