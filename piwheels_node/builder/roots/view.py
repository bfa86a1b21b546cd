# SPDX-License-Identifier: BSD-3-Clause
"""A root and its layers as one `/usr`: an overlay that exists only for the sandbox that shows it.

The overlay is mounted by an unprivileged process in a user and mount namespace of its own, just before
bubblewrap starts in there: `unshare` and `mount`, both of util-linux, which every Debian has. Nothing is
mounted on the host, whoever the builder is, and nothing is left when the sandbox ends. bubblewrap can do this
by itself from 0.11 on, which Debian 12 has not. Linux lets users mount overlays from 5.11 on.

The directories that are laid over each other have the names 0, 1, 2... in the view's own directory: an
option of mount has no room for long paths, and none for those with a comma or a colon.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SHOWN = "usr"
_MOUNT = 'cd "$1" && mount -t overlay overlay -o "$2" usr && shift 2 && exec "$@"'
_NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount")
_TIMEOUT_S = 30


@dataclass(frozen=True)
class View:
    """Several directories shown as one at `usr`, to what is called with `command`."""

    place: Path
    options: str

    @property
    def usr(self) -> Path:
        """Where the whole is, for whoever runs in the view."""
        return self.place / _SHOWN

    def command(self) -> list[str]:
        """What to put before a command, so that it runs in the view."""
        return [*_NAMESPACES, "--", "sh", "-c", _MOUNT, "sh", str(self.place), self.options]


@contextmanager
def view(directories: Sequence[Path], below: Path) -> Iterator[View]:
    """A view of directories, the first on top; it has a directory of its own in `below` meanwhile."""
    below.mkdir(mode=0o755, parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="view-", dir=below))
    try:
        place.chmod(0o755)
        (place / _SHOWN).mkdir(mode=0o755)
        for number, directory in enumerate(directories):
            (place / str(number)).symlink_to(directory)
        yield View(place, "lowerdir=" + ":".join(map(str, range(len(directories)))))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def can_be_shown(below: Path, account: Sequence[str] = ()) -> str | None:
    """Why this machine cannot show views, in a few words; None where it can.

    `account` is put before commands, so that they run as who starts sandboxes.
    """
    with tempfile.TemporaryDirectory(prefix="view-", dir=below) as directory:
        Path(directory).chmod(0o755)
        sample = Path(directory, "sample")
        (sample / "found").mkdir(parents=True)
        with view([sample, Path("/usr")], Path(directory)) as shown:
            command = [*account, *shown.command(), "test", "-d", str(shown.usr / "found")]
            try:
                done = subprocess.run(
                    command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or "the layer is not to be seen").splitlines()[0]
