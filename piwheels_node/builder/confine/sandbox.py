# SPDX-License-Identifier: BSD-3-Clause
"""The sandbox: package code runs in here, without a network, and nowhere else.

bubblewrap makes the view: the `/usr` of the host or of a build root read-only, with the build's layers over
it (`roots/view.py`), an empty home, `/build` to work in, a private `/tmp` with a size, and new user, mount,
PID, IPC, UTS, network and cgroup namespaces. Nothing of the builder's keys, state or other builds is mounted.
When the first process of the PID namespace ends, the kernel ends all others, so a build leaves none behind.

A builder that is root gives package code to an unprivileged account before bubblewrap starts: uid 0 is
special to the kernel in a user namespace, too (sysctl files, process limits). Where namespaces are not to
be had the builder says so and refuses; it never builds unconfined.

The caller gets the output through `log`, and limits end the build with a reason of `core.failure`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import pwd
import select
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from piwheels_node.builder.confine.cgroups import Group, Groups
from piwheels_node.builder.confine.disk import Disk
from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.limits import hard_processes
from piwheels_node.builder.confine.memory import GroupMemory, Memory, SampledMemory
from piwheels_node.builder.confine.processes import Family
from piwheels_node.builder.confine.watch import Bounds, Confined, Run, Watch
from piwheels_node.builder.interpreter import Interpreter
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.builder.roots.view import View, can_be_shown
from piwheels_node.core.errors import SandboxUnavailableError, SettingsError
from piwheels_node.core.settings import BuilderSettings

_log = logging.getLogger(__name__)
_HOOK = Path(__file__).parents[1] / "data" / "hook.py"
BUILD_ACCOUNTS = ("piwheels-build", "piwheels-node", "nobody")
"""Whom package code is given to, the first that there is; the master's own account is not the first."""

_PASSWD = "builder:x:1000:1000::/home/builder:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n"  # noqa: S105
_turn = itertools.count()
_SET_UP_S = 30.0
"""How long bubblewrap may take to its first fork; it is a matter of milliseconds."""

_GROUP = "builder:x:1000:\nnogroup:x:65534:\n"


@dataclass(frozen=True)
class Account:
    """Whom package code runs as, seen from outside the sandbox."""

    name: str
    uid: int
    gid: int


def build_account(settings: BuilderSettings) -> Account | None:
    """The account that package code runs as where the builder is root; None: as the builder itself."""
    if os.geteuid() != 0:
        return None
    for name in (settings.account,) if settings.account else BUILD_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise SettingsError("package code must not run as root", where=f"builder.account = {name}")
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise SettingsError(
        "there is no account to run package code as",
        where=f"builder.account = {settings.account or BUILD_ACCOUNTS[0]}",
        hint=f"adduser --system --no-create-home {settings.account or BUILD_ACCOUNTS[0]}",
    )


class Sandbox:
    """Runs commands under bubblewrap; one object serves all builds of a builder, from several threads."""

    def __init__(
        self, interpreter: Interpreter, settings: BuilderSettings, state: Path, tree: Tree = HOST
    ) -> None:
        """`state` is a directory of the builder's for the sandbox's own small files; `tree` what is shown."""
        self.interpreter = interpreter
        self.tree = tree
        self._state = state
        self.settings = settings
        self.account = build_account(settings)
        self.groups = Groups.find(settings.cgroup)
        self._idle_disk = ("ionice", "-c", "3", "-t") if shutil.which("ionice") else ()
        self._program = shutil.which("bwrap") or ""
        self._etc = state / "etc"
        self._etc.mkdir(parents=True, exist_ok=True)
        (self._etc / "passwd").write_text(_PASSWD)
        (self._etc / "group").write_text(_GROUP)
        shutil.copyfile(_HOOK, self._etc / "hook.py")
        for path in (self._etc, *self._etc.iterdir()):
            path.chmod(0o755)

    def check(self) -> None:
        """Run the interpreter in the sandbox; raises SandboxUnavailableError where that fails."""
        if not self._program:
            raise SandboxUnavailableError(
                "bubblewrap is not installed, so nothing can be built", hint="sudo apt install bubblewrap"
            )
        self._check_reachable(self._etc)
        self._check_reachable(self.interpreter.path if self.tree.is_host else self.tree.usr)
        command = [*self._bwrap(None, None), str(self.interpreter.path), "-I", "-c", ""]
        try:
            with self._popen(command, idle_disk=False) as process:
                said = process.communicate()[0].decode(errors="replace").strip()
        except OSError as error:
            raise SandboxUnavailableError(
                f"bubblewrap cannot be run: {error.strerror}",
                where=self._program,
                hint="sudo apt install --reinstall bubblewrap util-linux",
            ) from error
        if process.returncode == 0:
            return
        if said.startswith("setpriv:") and self.account:
            raise SandboxUnavailableError(
                f"bubblewrap cannot be run as '{self.account.name}': {said}",
                where=self._program,
                hint="run the command as an ordinary user",
            )
        if said.startswith("bwrap:"):
            raise SandboxUnavailableError(
                f"this machine does not let us confine a build: {said}",
                where="bubblewrap",
                hint=_namespace_hint(),
            )
        raise SandboxUnavailableError(
            f"the interpreter does not run in the sandbox: {said}",
            where=str(self.interpreter.path),
            hint="name one that needs nothing but /usr and its own directory with --python",
        )

    def claim(self, directory: Path) -> None:
        """Give a tree to the account that package code runs as."""
        if self.account is None:
            return
        os.chown(directory, self.account.uid, self.account.gid)
        for root, directories, files in os.walk(directory):
            for name in (*directories, *files):
                os.lchown(os.path.join(root, name), self.account.uid, self.account.gid)

    def run(
        self,
        arguments: list[str],
        *,
        build: Path,
        environment: Path,
        log: IO[bytes],
        bounds: Bounds,
        variables: dict[str, str],
        stop: threading.Event,
        pause: Gate | None = None,
        reading: Mapping[str, Path] | None = None,
        shown: View | None = None,
    ) -> Run:
        """Run the hook with `arguments`; `build` is bound to /build, `environment` to /env, read-only.

        So are the directories of `reading`, to the names that they have there; `shown` is what stands in for
        the root's own /usr. Returns when the last process of the sandbox is gone. While `pause` is closed all
        of them stand still.
        """
        command = ["/env/bin/python", "-s", "-P", "/hook.py", *arguments]
        disk = Disk(build, most_bytes=bounds.disk_bytes, every_s=bounds.disk_check_s)
        started = time.monotonic()
        with contextlib.ExitStack() as closing:
            process, family, hold = self._launch(
                self._bwrap(build, environment, variables, reading or {}, shown), command
            )
            closing.callback(hold.close)
            if family is None:
                process.kill()  # else it waits for `hold`, if it only took long
                log.write(process.communicate()[0] or b"bwrap: it did not begin in time\n")
                return Run(process.returncode, None, stopped=False, duration_s=time.monotonic() - started)
            group = self._group(family, bounds)
            if group:
                closing.callback(group.remove)
            confined = Confined(process, family, self._memory(family, group, bounds), disk, group)
            watch = Watch(confined, log=log, bounds=bounds, stop=stop, pause=pause)
            hold.close()
            reason = watch.until_end()
            return Run(
                exit_code=watch.exit_code,
                reason=reason,
                stopped=watch.stopped,
                duration_s=time.monotonic() - started,
                peak_memory_bytes=confined.memory.peak_bytes,
                cpu_s=group.cpu_s() if group else None,
                written_bytes=watch.written_bytes,
            )

    @property
    def kind(self) -> str:
        """How a build is confined here, and how its memory is limited: a build's report says so."""
        by_kernel = self.groups is not None and "memory" in self.groups.controllers
        return f"bubblewrap, memory limit: {'cgroup' if by_kernel else 'sampled'}"

    def why_no_layers(self) -> str | None:
        """Why nothing can be laid over the root here, in a few words; None where it can."""
        return can_be_shown(self._state, self._account())

    def machine_bytes(self) -> int | None:
        """Memory that all builds together may have, where that is less than the machine has."""
        return self.groups.memory_max_bytes() if self.groups else None

    def _launch(
        self, bwrap: list[str], command: list[str]
    ) -> tuple[subprocess.Popen[bytes], Family | None, IO[bytes]]:
        """Start bubblewrap up to where it would run the command: that begins when the third is closed.

        The family is None where bubblewrap has failed before it had one.
        """
        info_read, info_write = os.pipe()
        hold_read, hold_write = os.pipe()
        with os.fdopen(info_read, "rb", buffering=0) as info:
            hold = os.fdopen(hold_write, "wb", buffering=0)
            tell = ("--info-fd", str(info_write), "--block-fd", str(hold_read))
            try:
                process = self._popen([*bwrap, *tell, *command], pass_fds=(info_write, hold_read))
            except BaseException:
                hold.close()
                raise
            finally:
                os.close(info_write)
                os.close(hold_read)
            return process, _family(info), hold

    def _group(self, family: Family, bounds: Bounds) -> Group | None:
        """A group for the sandbox, which has not begun; None where we have none to give."""
        _end_first_where_memory_is_short(family.first)
        _share_cores(family.first, bounds)
        if self.groups is None:
            return None
        try:
            group = self.groups.new(memory_bytes=bounds.memory_bytes, processes=hard_processes(self.settings))
        except OSError as error:
            _log.warning("no control group for a build: %s", error)
            return None
        try:
            group.add(family.first)
        except OSError as error:
            _log.warning("a build cannot be put into its control group: %s", error)
            group.remove()
            return None
        return group

    def _memory(self, family: Family, group: Group | None, bounds: Bounds) -> Memory:
        if group and group.limits_memory:
            return GroupMemory(group)
        return SampledMemory(family, most_bytes=bounds.memory_bytes, tmp_bytes=self.settings.tmp_bytes)

    def _popen(
        self, command: list[str], *, pass_fds: tuple[int, ...] = (), idle_disk: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start bubblewrap in a session of its own, as the account that package code runs as.

        By setpriv, not by Popen's `user`: that would copy the page tables of the whole builder first.
        """
        command = [*self._account(), *command]
        if idle_disk:
            command = [*self._idle_disk, *command]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            env={"PATH": os.defpath},
            start_new_session=True,
        )

    def _account(self) -> tuple[str, ...]:
        """What to put before a command, so that it runs as the account that package code runs as."""
        if self.account is None:
            return ()
        account = ("--reuid", str(self.account.uid), "--regid", str(self.account.gid), "--clear-groups")
        return ("setpriv", *account, "--")

    def _bwrap(
        self,
        build: Path | None,
        environment: Path | None,
        variables: dict[str, str] | None = None,
        reading: Mapping[str, Path] | None = None,
        shown: View | None = None,
    ) -> list[str]:
        tmp_bytes = str(self.settings.tmp_bytes)
        command = [
            *(shown.command() if shown else ()),
            *(self._program, "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
            *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "builder"),
            *("--uid", "1000", "--gid", "1000"),
            *self.tree.mounts(shown.usr if shown else None),
            *(
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--perms",
                "1777",
                "--size",
                tmp_bytes,
                "--tmpfs",
                "/dev/shm",  # noqa: S108 - private to the sandbox
            ),
            *("--perms", "1777", "--size", tmp_bytes, "--tmpfs", "/tmp"),  # noqa: S108 - private to the sandbox
            *("--perms", "0700", "--size", tmp_bytes, "--tmpfs", "/home/builder"),
            *("--ro-bind", str(self._etc / "passwd"), "/etc/passwd"),
            *("--ro-bind", str(self._etc / "group"), "/etc/group"),
            *("--ro-bind", str(self._etc / "hook.py"), "/hook.py"),
        ]
        command += self.tree.settings()
        if not self.interpreter.prefix.is_relative_to("/usr"):
            command += ["--ro-bind", str(self.interpreter.prefix), str(self.interpreter.prefix)]
        if build and environment:
            command += ["--bind", str(build), "/build", "--ro-bind", str(environment), "/env"]
            command += ["--chdir", "/build"]
        for place, directory in (reading or {}).items():
            command += ["--ro-bind", str(directory), place]
        for name, value in (variables or {}).items():
            command += ["--setenv", name, value]
        return [*command, "--remount-ro", "/"]

    def _check_reachable(self, path: Path) -> None:
        """The account must be able to walk to what is mounted for it."""
        if self.account is None:
            return
        resolved = path.resolve()
        for directory in (*resolved.parents, resolved):
            if not _others_may(directory):
                raise SandboxUnavailableError(
                    f"package code runs as '{self.account.name}', which cannot reach {resolved}",
                    where=str(directory),
                    hint="choose a place where every user may go (/var/lib, /var/tmp), or chmod o+x it",
                )


def _family(info: IO[bytes]) -> Family | None:
    """The sandbox's processes by what bubblewrap tells; None where it ended before there were any."""
    told = b""
    until = time.monotonic() + _SET_UP_S
    while select.select([info], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(info.fileno(), 1 << 12)
        if not piece:
            break
        told += piece
    with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
        return Family(int(json.loads(told)["child-pid"]))
    return None


def _end_first_where_memory_is_short(process: int) -> None:
    """What the kernel ends for want of memory shall be a build, and nothing of the machine's owner."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/oom_score_adj").write_text("1000")


def _share_cores(process: int, bounds: Bounds) -> None:
    """Give a build that may not use all cores some of them: ninja asks for those and for nothing else."""
    there = sorted(os.sched_getaffinity(0))
    if bounds.cores < len(there):
        first = next(_turn)
        chosen = {there[(first + number) % len(there)] for number in range(bounds.cores)}
        with contextlib.suppress(OSError):
            os.sched_setaffinity(process, chosen)


def _others_may(path: Path) -> bool:
    mode = path.stat().st_mode
    return bool(mode & stat.S_IXOTH) if path.is_dir() else bool(mode & stat.S_IROTH)


def _namespace_hint() -> str:
    """What most likely keeps user namespaces from us, and what to do about it."""
    switches = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "sudo sysctl user.max_user_namespaces=15000"),
    }
    for path, (closed, hint) in switches.items():
        with contextlib.suppress(OSError):
            if Path(path).read_text().strip() == closed:
                return hint
    return "unprivileged user namespaces are needed; in a container, they must be allowed from outside"
