# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node builder run`: the builder as a service in the foreground."""

from __future__ import annotations

import contextlib
import logging
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from piwheels_node.builder.farm import membership
from piwheels_node.builder.farm.membership import Membership
from piwheels_node.builder.farm.service import BuilderService
from piwheels_node.builder.farm.window import Window
from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.machine.health import slots
from piwheels_node.builder.machine.identity import this_machine
from piwheels_node.builder.workshop import Workshop
from piwheels_node.cli.options import data_option, load_settings, set_option
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import MasterUnreachableError, NodeError
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import Lease, ReportAnswer
from piwheels_node.core.places import BUILDER
from piwheels_node.core.settings import Settings
from piwheels_node.core.text import harmless
from piwheels_node.notify import Service, job_fields, log_to_journal

_AGAIN_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_LOOK_S = 1.0
_log = logging.getLogger(__name__)


@click.command("run", epilog="Example: sudo piwheels-node builder run --set builder.slots=1")
@data_option
@set_option
def command(data: Path, *, overrides: tuple[str, ...]) -> None:
    """Take jobs from the master that was joined, and build them, until Ctrl-C or SIGTERM.

    What is unfinished then goes back to the queue. A master that is away is waited for.
    """
    data = data.absolute()
    settings = load_settings(overrides)
    mine = membership.load(data)
    if mine is None:
        raise NodeError(
            "no master was joined", where=str(data), hint="sudo piwheels-node builder join URL TOKEN"
        )
    with (
        membership.serving(data),
        contextlib.suppress(KeyboardInterrupt),
        _service(data, mine, settings) as service,
    ):
        _serve(service, mine, data)
        if service.error:
            raise service.error


def _serve(service: BuilderService, mine: Membership, data: Path) -> None:
    """Build until the service ends by itself; raises KeyboardInterrupt where it is asked to end."""
    systemd = Service()
    window = Window(data)
    systemd.ready(f"waiting for {mine.url}")
    try:
        _start(service, mine, systemd, lambda: window.show(service.view(data, mine.name)))
        while not service.wait(_LOOK_S):
            if service.is_well():
                systemd.well()
                window.show(service.view(data, mine.name))
            systemd.status(service.doing)
    except KeyboardInterrupt:
        systemd.stopping("giving back what is unfinished")
        raise
    finally:
        window.close()


@contextlib.contextmanager
def _service(data: Path, mine: Membership, settings: Settings) -> Iterator[BuilderService]:
    """A builder for the master that was joined, stopped at the end."""
    named = mine.certificate is None or membership.is_named_by(mine.certificate, mine.url)
    if not named:
        click.echo("the master's certificate does not name its host: pip does without its index", err=True)
    certificates = membership.certificates_for_pip(data, mine) if named else None
    _let_through(data)
    workshop = Workshop(
        data / BUILDER,
        probe(settings.builder.python),
        settings,
        extra_index_url=mine.index_url if named else "",
        certificates=certificates,
        stop=threading.Event(),
    )
    with contextlib.ExitStack() as closing:
        closing.callback(workshop.close)
        client = closing.enter_context(
            MasterClient(mine.url, mine.key, session=secrets.token_urlsafe(24), certificate=mine.certificate)
        )
        service = BuilderService(
            client,
            workshop,
            slots=settings.builder.slots or slots(),
            observer=_Told(in_journal=log_to_journal()),
            machine=this_machine(),
        )
        closing.callback(service.stop)
        yield service


def _let_through(data: Path) -> None:
    """The account that package code runs as must be able to walk through, whoever owns the directory."""
    if not data.stat().st_mode & stat.S_IXOTH:
        data.chmod(0o755)


def _start(service: BuilderService, mine: Membership, systemd: Service, show: Callable[[], None]) -> None:
    """Begin to take jobs, as soon as the master is there."""
    tried = 0
    while True:
        systemd.well()
        try:
            service.start()
        except MasterUnreachableError as error:
            show()
            if not tried:
                click.echo(f"{harmless(str(error))}\nwaiting for it", err=True)
            time.sleep(_AGAIN_S[min(tried, len(_AGAIN_S) - 1)])
            tried += 1
        else:
            click.echo(f"{mine.name} builds for {mine.url} until Ctrl-C", err=True)
            return


class _Told:
    """What the builder does, as lines on standard error; as entries with fields where that is the journal."""

    def __init__(self, *, in_journal: bool) -> None:
        self._in_journal = in_journal

    def started(self, lease: Lease) -> None:
        """A job was leased."""
        self._tell(lease, "taken")

    def step(self, lease: Lease, step: Step) -> None:
        """A step begins: not worth a line."""

    def finished(self, lease: Lease, answer: ReportAnswer | None) -> None:
        """The job is done with."""
        if answer is None:
            words = "given back"
        else:
            words = " ".join(filter(None, [answer.outcome.value, answer.reason and answer.reason.value]))
        self._tell(lease, words)

    def paused(self, why: str | None) -> None:
        """No jobs are taken for this reason, or they are again."""
        if not self._in_journal:  # it has what the service logs of this
            _say(f"standing still: {why}" if why else "taking jobs again")

    def _tell(self, lease: Lease, words: str) -> None:
        line = f"{lease.project} {lease.version} (job {lease.job_id}): {words}"
        if self._in_journal:
            _log.info("%s", harmless(line), extra=job_fields(lease.project, lease.version, lease.job_id))
        else:
            _say(line)


def _say(line: str) -> None:
    click.echo(harmless(line), err=True)
