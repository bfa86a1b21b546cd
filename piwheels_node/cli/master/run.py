# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master run`: the master as a service in the foreground."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
from pathlib import Path

import click

from piwheels_node.cli.master.words import url_for_others
from piwheels_node.cli.options import data_option, load_settings, set_option
from piwheels_node.core.errors import NodeError
from piwheels_node.core.places import OPERATOR_KEY
from piwheels_node.core.settings import Settings
from piwheels_node.master.running.certificate import serving_files
from piwheels_node.master.running.keyfiles import endpoint
from piwheels_node.master.running.service import Master
from piwheels_node.notify import Service, log_to_journal

_LOOK_S = 1.0


@click.command("run", epilog="Example: sudo piwheels-node master run")
@data_option
@click.option("--host", metavar="ADDR", help="Address to listen on; default: the setting master.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; default: master.port.")
@set_option
def command(data: Path, host: str | None, port: int | None, *, overrides: tuple[str, ...]) -> None:
    """Serve builders, people and pip, until Ctrl-C or SIGTERM.

    Called as root it gives root away first, and is whoever owns the data directory from then on.
    """
    data = data.absolute()
    settings = with_address(load_settings(overrides), host, port)
    become_owner(data)
    if not os.access(data / OPERATOR_KEY, os.R_OK):
        raise NodeError(
            "there is no master here that you may run",
            where=str(data),
            hint=f"piwheels-node master init --data {data}",
        )
    files = serving_files(data, settings)
    log_to_journal()
    with Master(data, settings) as master:
        listens = master.start()
        with endpoint(data, listens, files[0].absolute() if files else None):
            url = url_for_others(listens, settings)
            click.echo(f"The master is {url} and its index {url}/simple/ until Ctrl-C.", err=True)
            with contextlib.suppress(KeyboardInterrupt):  # the normal end
                _serve(master, f"serving {url}")
                raise NodeError("the web server of the master has ended", hint="the lines above say why")


def _serve(master: Master, status: str) -> None:
    """Wait until the web server ends by itself; raises KeyboardInterrupt where it is asked to end."""
    systemd = Service()
    systemd.ready(status)
    try:
        while not master.wait(_LOOK_S):
            if master.is_well():
                systemd.well()
    except KeyboardInterrupt:
        systemd.stopping("finishing what is being answered")
        raise


def with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings, with the address of the command line in place of theirs where it names one."""
    master = settings.master
    if host is not None:
        master = dataclasses.replace(master, host=host)
    if port is not None:
        master = dataclasses.replace(master, port=port)
    return dataclasses.replace(settings, master=master)


def become_owner(data: Path) -> None:
    """As root: become whoever owns the directory; what listens to the network has no business being root."""
    if os.geteuid() != 0:
        return
    try:
        owner = data.stat()
    except OSError as error:
        raise NodeError(
            f"the data directory cannot be used: {error.strerror}",
            where=str(data),
            hint=f"piwheels-node master init --data {data}",
        ) from error
    if owner.st_uid == 0:
        return
    try:
        account = pwd.getpwuid(owner.st_uid)
        os.initgroups(account.pw_name, owner.st_gid)
        os.environ["HOME"] = account.pw_dir
    except KeyError:  # an owner without an account: in a container, or of a disk from elsewhere
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
