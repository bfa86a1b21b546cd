# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master failures`: why builds failed, over all of them. It asks the running master."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import json_option
from piwheels_node.cli.output import print_message, print_messages, print_rows
from piwheels_node.cli.times import ago, duration_s, moment
from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import FailedBuild, FailureReport, ReasonCount

_REASONS = {reason.value: reason for reason in FailureReason}


@click.command(
    "failures", epilog="Example: piwheels-node master failures --since 30d --reason missing-header"
)
@click.option(
    "--since",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="First day: 2026-11-16; or how many days, the last included. As many before it are to compare with.",
)
@click.option("--until", metavar="TIME", help="Last day; default: today.")
@click.option("--target", metavar="TARGET", help="Only builds of this target.")
@click.option("--project", metavar="NAME", help="Only builds of this project.")
@click.option(
    "--reason",
    type=click.Choice(list(_REASONS)),
    metavar="REASON",
    help="The newest builds that failed for this one.",
)
@click.option(
    "--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="With --reason: how many."
)
@master_options
@json_option
def command(
    *,
    since: str,
    until: str | None,
    target: str | None,
    project: str | None,
    reason: str | None,
    limit: int,
    connection: Connection,
    as_json: bool,
) -> None:
    """Say why builds failed: how many by reason, compared with the days before, with an example of each.

    Days are UTC's. A build counts whenever it failed, also where another builder then succeeded.
    """
    now = datetime.now(UTC)
    last = moment(until, now).date() if until else now.date()
    first = _first_day(since, last, now)
    with connection.client() as client:
        if reason is not None:
            found = client.failed_builds(_REASONS[reason], target=target, project=project, limit=limit)
            _show_builds(
                [one for one in found if first <= one.started_at.date() <= last], now, as_json=as_json
            )
            return
        report = client.failures(since=first, until=last, target=target, project=project)
    if as_json:
        print_message(report)
    else:
        _show(report)


def _first_day(since: str, last: date, now: datetime) -> date:
    """`7d` are seven days, the last included."""
    try:
        days = math.ceil(duration_s(since) / duration_s("1d"))
        return last - timedelta(days=max(days - 1, 0))
    except (UsageError, OverflowError):
        return moment(since, now).date()


def _show(report: FailureReport) -> None:
    rows = [
        (
            str(one.reason),
            str(one.builds),
            f"{one.share:.0%}",
            _trend(one),
            _example(one.newest),
            (one.newest.debian_package if one.newest else None) or "",
        )
        for one in report.reasons
    ]
    if rows:
        print_rows(("reason", "builds", "share", "before", "newest", "package"), rows)
    days = _days(report.since, report.until)
    total = report.built + report.failed
    of_all = f", {report.failed / total:.0%} of {total}" if total else ""
    click.echo(
        f"{days}: {report.failed} failed{of_all}; as many days before: {report.failed_before}"
        f" of {report.built_before + report.failed_before}."
    )
    if not report.is_whole:
        click.echo("The project has more builds than were looked at: the newest are counted.", err=True)


def _trend(one: ReasonCount) -> str:
    """How it was before, and where it goes."""
    if one.builds == one.before:
        return f"{one.before} ="
    return f"{one.before} {'+' if one.builds > one.before else '-'}{abs(one.builds - one.before)}"


def _example(build: FailedBuild | None) -> str:
    if build is None:
        return ""
    about = f": {build.captured}" if build.captured else ""
    return f"{build.project} {build.version} (job {build.job_id}){about}"


def _days(since: date, until: date) -> str:
    return str(since) if since == until else f"{since} to {until}"


def _show_builds(found: list[FailedBuild], now: datetime, *, as_json: bool) -> None:
    if as_json:
        print_messages(found)
        return
    rows = [
        (
            str(one.job_id),
            f"{one.project} {one.version}",
            one.target,
            one.builder,
            ago(one.started_at, now),
            one.captured or "",
            one.debian_package or "",
            f"{one.evidence_line}: {one.evidence}" if one.evidence_line is not None else one.evidence or "",
        )
        for one in found
    ]
    print_rows(("job", "release", "target", "builder", "began", "about", "package", "evidence"), rows)
