# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master init`: everything that a master needs before it runs for the first time.

    DIR/                  for all to walk through, DIR/keys/ for the owner only
    DIR/certificate.pem   made for the names of this machine, where no other certificate is set
    DIR/keys/             its key, and the operator's
    a system account      as root: the master runs as `piwheels-node`, which owns DIR
    master.toml           as root: where it listens, unless there is such a file

Called again it makes what is missing, changes nothing else, and says so.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import click

from piwheels_node.cli.master.run import with_address
from piwheels_node.cli.master.words import join_command
from piwheels_node.cli.options import data_option, default_data_directory, load_settings
from piwheels_node.core.errors import NodeError
from piwheels_node.core.messages import TokenRequest, TokenView
from piwheels_node.core.places import BUILDER, CERTIFICATE, MEMBERSHIP, OPERATOR_KEY
from piwheels_node.core.settings import SETTINGS_DIR, Settings
from piwheels_node.master.running import directory
from piwheels_node.master.running.certificate import (
    keep_certificate,
    names_in,
    names_of_this_machine,
    serving_files,
)
from piwheels_node.master.running.keyfiles import keep_key, make_directory
from piwheels_node.master.running.service import Master
from piwheels_node.notify import starts_by_itself

ACCOUNT = "piwheels-node"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a master is there for others; its API asks for keys
PORT = 8443
_OF_BUILDERS = {BUILDER.name, MEMBERSHIP.name}
_FIRST_TOKEN = TokenRequest(uses=10, lasts_s=86400, note="made by master init")


@click.command("init", epilog="Example: sudo piwheels-node master init --name farm.example")
@data_option
@click.option(
    "--host", metavar="ADDR", default=EVERYWHERE, show_default="all addresses", help="Address to listen on."
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Port to listen on."
)
@click.option(
    "--name", "names", multiple=True, help="A name that others call this machine by. May be given again."
)
@click.option(
    "--user/--no-user",
    "wants_account",
    default=None,
    help="Make the system account piwheels-node, and give it the directory; default: as root, in"
    " /var/lib/piwheels-node.",
)
def command(data: Path, host: str, port: int, names: tuple[str, ...], *, wants_account: bool | None) -> None:
    """Make this machine a master: directory, certificate, the operator's key, and a first join token."""
    is_system = os.geteuid() == 0 and data == default_data_directory()
    data = data.absolute()
    if wants_account is None:
        wants_account = is_system
    elif wants_account and os.geteuid() != 0:
        raise NodeError("only root can make an account", hint="sudo piwheels-node master init")
    done: list[str] = []
    settings_file = _keep_settings(host, port, done) if is_system else None
    settings = with_address(
        load_settings(()), None if settings_file else host, None if settings_file else port
    )
    account = _account(done) if wants_account else None
    token = _keep_data(data, settings, names, done)
    if account is not None:
        _give(data, account, done)
    _say(data, settings, done, token, settings_file)


def _keep_data(data: Path, settings: Settings, names: tuple[str, ...], done: list[str]) -> TokenView | None:
    """The directory and what is in it; gives a join token where this is the first time."""
    if not data.is_dir():
        done.append(f"the data directory {data}")
    make_directory(data)
    if not settings.master.certificate and not settings.master.proxied:
        called = [*names, *names_of_this_machine()]
        if keep_certificate(data, called, datetime.now(UTC)):
            done.append(f"the certificate {data / CERTIFICATE}, for {', '.join(dict.fromkeys(called))}")
        else:
            _check_names(data, names)
    if (data / OPERATOR_KEY).exists() and _is_served(data):
        return None  # a master that runs has all it needs
    with Master(data, settings) as master:
        known = (data / OPERATOR_KEY).exists() and master.knows_key(
            "operator", (data / OPERATOR_KEY).read_text().strip()
        )
        if known:
            return None
        keep_key(
            data / OPERATOR_KEY,
            is_good=lambda key: master.knows_key("operator", key),
            make=lambda: master.create_key("operator"),
        )
        done.append(f"the operator's key {data / OPERATOR_KEY}")
        return master.create_join_token(_FIRST_TOKEN)


def _check_names(data: Path, names: tuple[str, ...]) -> None:
    """Raise NodeError where a name is wanted that the certificate, which is there already, does not have."""
    missing = set(names) - set(names_in((data / CERTIFICATE).read_bytes()))
    if missing:
        raise NodeError(
            f"the certificate does not name {', '.join(sorted(missing))}, and builders know it as it is",
            where=str(data / CERTIFICATE),
            hint="remove it and call this again for another one; then each builder must join again",
        )


def _keep_settings(host: str, port: int, done: list[str]) -> Path:
    """The file that says where the master listens; one that is there stays as it is."""
    path = Path(os.environ.get("PIWHEELS_NODE_SETTINGS") or SETTINGS_DIR) / "master.toml"
    if path.exists() or path.parent.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[master]\nhost = "{host}"\nport = {port}\n')
        path.chmod(0o644)
    except OSError as error:
        raise NodeError(f"the settings cannot be written: {error.strerror}", where=str(path)) from error
    done.append(f"the settings {path}")
    return path


def _account(done: list[str]) -> pwd.struct_passwd:
    """The system account that the master runs as, made where it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--home-dir", "/var/lib/piwheels-node", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        made = pwd.getpwnam(ACCOUNT)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise NodeError(
            f"the account cannot be made: {said}", where=ACCOUNT, hint="make it yourself, or give --no-user"
        ) from error
    done.append(f"the account {ACCOUNT}")
    return made


def _give(data: Path, account: pwd.struct_passwd, done: list[str]) -> None:
    """Make the account the owner of the directory and of what the master has in it.

    What a builder on the same machine has there stays its own. Names are looked up in directories that are
    open already and links are not followed: who owns a directory might swap one while we walk.
    """
    changed = 0
    for root, directories, files, descriptor in os.fwalk(data):
        if Path(root) == data:
            directories[:] = [name for name in directories if name not in _OF_BUILDERS]
        for name in (".", *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if (found.st_uid, found.st_gid) != (account.pw_uid, account.pw_gid):
                os.chown(name, account.pw_uid, account.pw_gid, dir_fd=descriptor, follow_symlinks=False)
                changed += 1
    if changed:
        done.append(f"{data} belongs to {account.pw_name}")


def _is_served(data: Path) -> bool:
    try:
        directory.hold(data, shared=False).close()
    except NodeError:
        return True
    return False


def _say(
    data: Path, settings: Settings, done: list[str], token: TokenView | None, settings_file: Path | None
) -> None:
    """What was done, and what to do next; the command for builders is the only line on standard output."""
    for one in done:
        click.echo(f"made: {one}" if " belongs to " not in one else one, err=True)
    if not done:
        click.echo(f"{data} is a master already: nothing was changed.", err=True)
    master = settings.master
    place = "" if data == default_data_directory() else f" --data {data}"
    run = f"{'sudo ' if settings_file else ''}piwheels-node master run{place}"
    if not settings_file:
        run += f" --host {master.host} --port {master.port}"
    if settings_file and starts_by_itself("master"):
        click.echo("\nIt serves as piwheels-master.service: systemctl status piwheels-master\n", err=True)
    else:
        click.echo(f"\nTo serve:\n\n    {run}\n", err=True)
    if token is None:
        click.echo(f"For a join token, while it runs: piwheels-node master token new{place}", err=True)
        return
    click.echo(
        f"Then, on each machine that shall build ({token.uses_left} at most,"
        f" until {token.expires_at.astimezone():%Y-%m-%d %H:%M}):\n",
        err=True,
    )
    shown = f"[{master.host}]" if ":" in master.host else master.host
    scheme = "http" if serving_files(data, settings) is None else "https"
    click.echo(join_command(f"{scheme}://{shown}:{master.port}", settings, token.token or ""))
