# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master cancel`: jobs that nobody wants any more."""

from __future__ import annotations

import click

from piwheels_node.cli.connection import Connection, master_options


@click.command("cancel", epilog="Example: piwheels-node master cancel 4711")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, type=click.IntRange(1))
@master_options
def cancel(*, job_ids: tuple[int, ...], connection: Connection) -> None:
    """Cancel jobs by their numbers; a builder stops what it builds. Asking again queues them again."""
    with connection.client() as client:
        for job_id in job_ids:
            job = client.cancel(job_id)
            click.echo(f"{job.project} {job.version} is cancelled (job {job.job_id})")
