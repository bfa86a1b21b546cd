# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master explain, request, rebuild, skip, unskip`: what is built of PyPI's projects."""

from __future__ import annotations

import getpass

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import force_option, json_option, parse_requests, target_option
from piwheels_node.cli.output import print_message, print_messages, print_rows
from piwheels_node.core.errors import UsageError
from piwheels_node.core.explaining import (
    NO_TARGET,
    answer_words,
    project_words,
    release_words,
    target_words,
)
from piwheels_node.core.messages import (
    BuildRequest,
    ProjectPlan,
    RebuildRequest,
    SkipRequest,
    SkipView,
)
from piwheels_node.core.text import harmless


@click.command("explain", epilog="Example: piwheels-node master explain numpy==2.1.0")
@click.argument("word", metavar="NAME[==VERSION]")
@master_options
@json_option
def explain(*, word: str, connection: Connection, as_json: bool) -> None:
    """What PyPI has of a project, and for each target what will be built, or why not.

    Without a version the newest 20 are shown.
    """
    wanted = _one(word)
    with connection.client() as client:
        plan = client.plan(wanted.project, wanted.version)
    if as_json:
        print_message(plan)
    else:
        _show(plan)


@click.command("request", epilog="Example: piwheels-node master request RPi.GPIO spidev==3.8")
@click.argument("words", metavar="NAME[==VERSION]...", nargs=-1, required=True)
@target_option
@force_option
@master_options
@json_option
def request(
    *, words: tuple[str, ...], target: str | None, force: bool, connection: Connection, as_json: bool
) -> None:
    """Ask for builds before all others, and do not wait for them."""
    with connection.client() as client:
        answers = [client.request(one) for one in parse_requests(words, force=force, target=target)]
    if as_json:
        print_messages(answers)
        return
    for answer in answers:
        click.echo(harmless(answer_words(answer)))


@click.command("rebuild", epilog="Example: piwheels-node master rebuild lgpio==0.2.2.0")
@click.argument("word", metavar="NAME[==VERSION]")
@target_option
@master_options
@json_option
def rebuild(*, word: str, target: str | None, connection: Connection, as_json: bool) -> None:
    """Queue what has ended once more: of one version, or of all that there are jobs of.

    A wheel that is in the index stays there: the new one gets a build tag (PEP 427), which pip prefers.
    """
    wanted = _one(word)
    with connection.client() as client:
        jobs = client.rebuild(RebuildRequest(project=wanted.project, version=wanted.version, target=target))
    if as_json:
        print_messages(jobs)
        return
    for job in jobs:
        click.echo(
            harmless(f"{job.project} {job.version} for {job.target}: job {job.job_id} is queued again")
        )
    if not jobs:
        click.echo("Its jobs have not ended: there is nothing to do again.")


@click.command("skip", epilog="Example: piwheels-node master skip 'tensorflow<2' --reason 'needs Bazel'")
@click.argument("word", metavar="[NAME[VERSIONS]]", required=False)
@click.option("--reason", metavar="TEXT", help="Why; it is shown by `explain`.")
@master_options
@json_option
def skip(*, word: str | None, reason: str | None, connection: Connection, as_json: bool) -> None:
    """Build nothing of a project, or of a range of its versions; jobs that wait are cancelled.

    What people ask for is built all the same. Without a name, list what is skipped.
    """
    with connection.client() as client:
        if word is None:
            rules = client.skips()
        else:
            if not reason:
                raise UsageError("a rule needs a reason", hint="--reason TEXT")
            name, versions = _range(word)
            rules = [
                client.add_skip(SkipRequest(project=name, versions=versions, reason=reason[:500], who=_me()))
            ]
    _print_rules(rules, as_json=as_json)


@click.command("unskip", epilog="Example: piwheels-node master unskip tensorflow")
@click.argument("name", metavar="NAME")
@master_options
@json_option
def unskip(*, name: str, connection: Connection, as_json: bool) -> None:
    """Forget all rules about a project; what they kept from being built is planned again."""
    with connection.client() as client:
        rules = client.remove_skips(name)
    _print_rules(rules, as_json=as_json)


def _one(word: str) -> BuildRequest:
    (wanted,) = parse_requests([word], force=False)
    return wanted


def _range(word: str) -> tuple[str, str]:
    """`name<2` as the name and `<2`; the master judges both."""
    place = next((at for at, one in enumerate(word) if one in "<>=!~ "), len(word))
    if not word[:place]:
        raise UsageError(f"'{word}' names no project", hint="write NAME, or 'NAME<2'")
    return word[:place], word[place:].strip()


def _me() -> str:
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):  # an account without a name
        return "operator"


def _print_rules(rules: list[SkipView], *, as_json: bool) -> None:
    if as_json:
        print_messages(rules)
    elif rules:
        rows = [
            (rule.project, rule.versions or "all", rule.reason, rule.who, f"{rule.created_at:%Y-%m-%d}")
            for rule in rules
        ]
        print_rows(("project", "versions", "reason", "who", "since"), rows)
    else:
        click.echo("Nothing is skipped.")


def _show(plan: ProjectPlan) -> None:
    click.echo(harmless(project_words(plan)))
    for release in plan.releases:
        click.echo(harmless(f"\n{release.version} ({release_words(release)})"))
        for target in release.targets:
            click.echo(harmless(f"  {target.target}  {target_words(target)}"))
    if plan.releases and not plan.releases[0].targets:
        click.echo(f"\n{NO_TARGET}")
