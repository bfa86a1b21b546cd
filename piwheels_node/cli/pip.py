# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node pip`: what pip and uv on this machine use, and pointing them to an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from piwheels_node.cli.options import json_option, seen_data_option
from piwheels_node.consumer import pip_files, switch, uv_config
from piwheels_node.consumer.index import PUBLIC_INDEX, enabled_index
from piwheels_node.core.errors import NodeError, StorageError, UsageError
from piwheels_node.core.text import harmless

_ROOT = Path("/")


@click.group("pip", epilog="Example: sudo piwheels-node pip enable --index https://farm.local:8443")
def group() -> None:
    """What pip and uv on this machine use, and pointing them to an index of ready-made wheels."""


def _index_option(command: Any) -> Any:
    return click.option(
        "--index",
        metavar="URL",
        help="The index, or the master that serves it; default: that of the master that was joined, else the"
        " one enabled before, else the public one of the piwheels project.",
    )(command)


@group.command("status", epilog="Example: piwheels-node pip status --json")
@_index_option
@seen_data_option
@json_option
def status(index: str | None, data: Path, *, as_json: bool) -> None:
    """Say what pip and uv will really use when you call them here, file by file, and why."""
    url = switch.index_url(index) if index else expected_index(data)
    at = pip_files.Surroundings.ours()
    pip, uv = pip_files.look(at), uv_config.look(at)
    if as_json:
        click.echo(json.dumps(_as_json(url, pip, uv), indent=2))
        return
    for line in lines(url, pip, uv):
        click.echo(harmless(line))


@group.command("enable", epilog="Example: sudo piwheels-node pip enable")
@_index_option
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the master's own certificate, for this machine to believe; default: that of the master"
    " that was joined, where it has its own.",
)
@seen_data_option
def enable(index: str | None, certificate: Path | None, data: Path) -> None:
    """Let pip and uv, for everybody on this machine, ask an index of ready-made wheels too.

    One line in one file, whose rest stays as it is; users' own files are not touched, and go before it.
    """
    joined, pem = _joined(data, strict=True)
    if index:
        url = switch.index_url(index)
        pem = pem if joined and pip_files.same_index(url, joined) else None
    else:
        url = joined or enabled_index(_ROOT) or PUBLIC_INDEX
    if certificate:
        pem = _read(certificate)
    _say(switch.enable(_ROOT, url, pem))
    view = pip_files.look(pip_files.Surroundings.ours())
    if view.uses(url):
        click.echo(f"pip here asks {url} too.", err=True)
    else:
        click.echo("Your own settings hide it: piwheels-node pip status", err=True)


@group.command("disable", epilog="Example: sudo piwheels-node pip disable")
def disable() -> None:
    """Take back what `enable` or the package's installation did: each file is again what it was before."""
    _say(switch.disable(_ROOT))


def lines(url: str, pip: pip_files.PipView, uv: uv_config.UvView) -> list[str]:
    """What pip and uv use, for people."""
    said = [f"pip {'asks' if pip.uses(url) else 'does not ask'} {url}"]
    if pip.broken:
        said.append(f"  pip does not start at all: {pip.broken.name}: {pip.broken.error}")
    elif pip.no_index:
        said.append("  pip is told to ask no index at all")
    said += [f"  {source.kind.value:8}  {source.name}: {pip.verdict(source)}" for source in pip.sources]
    said.append(f"uv {'asks' if uv.uses(url) else 'does not ask'} {url}")
    said += [f"  {file.name}: {_uv_verdict(file)}" for file in uv.files]
    if uv.uses(url) and uv.strategy != uv_config.STRATEGY:
        said.append(f'  without index-strategy = "{uv_config.STRATEGY}" uv may take an older release from it')
    if not pip.uses(url) and not pip.broken:
        said.append(_how_to_change(url, pip))
    return said


def _how_to_change(url: str, pip: pip_files.PipView) -> str:
    decided = pip.decision(pip_files.NO_INDEX) if pip.no_index else pip.decision(pip_files.EXTRA)
    if decided and decided.source.kind is not pip_files.Kind.SYSTEM:
        return f"That is what {decided.source.name} says; to ask it too, add {url} there."
    return "To change that for everybody here: sudo piwheels-node pip enable"


def _uv_verdict(file: uv_config.UvFile) -> str:
    if file.error:
        return f"uv stops at it: {file.error}"
    if not file.there:
        return "not there"
    return f"indexes {', '.join(file.urls)}" if file.urls else "says nothing about indexes"


def _as_json(url: str, pip: pip_files.PipView, uv: uv_config.UvView) -> dict[str, Any]:
    extra, index = pip.decision(pip_files.EXTRA), pip.decision(pip_files.INDEX)
    return {
        "index": url,
        "pip": {
            "asks": pip.uses(url),
            "index_url": pip.index_url,
            "index_url_from": index and index.source.name,
            "extra_index_urls": pip.extra_index_urls,
            "extra_index_urls_from": extra and extra.source.name,
            "no_index": pip.no_index,
            "broken": pip.broken and pip.broken.name,
            "sources": [
                {
                    "kind": source.kind.value,
                    "name": source.name,
                    "there": source.there,
                    "verdict": pip.verdict(source),
                    "says": {f"{section}.{key}": value for (section, key), value in source.values.items()},
                }
                for source in pip.sources
            ],
        },
        "uv": {
            "asks": uv.uses(url),
            "strategy": uv.strategy,
            "files": [
                {"name": file.name, "there": file.there, "indexes": file.urls, "error": file.error}
                for file in uv.files
            ],
        },
    }


def expected_index(data: Path) -> str:
    """The index that pip is meant to ask here, where nobody has named one."""
    return enabled_index(_ROOT) or _joined(data)[0] or PUBLIC_INDEX


def _joined(data: Path, *, strict: bool = False) -> tuple[str | None, str | None]:
    """The index of the master that was joined, and its certificate.

    `strict`: raises UsageError where pip cannot use it, in place of telling none.
    """
    from piwheels_node.builder.farm import membership  # noqa: PLC0415 - the client is slow to import

    try:
        mine = membership.load(data.absolute())
    except StorageError:  # for its owner only; who may change pip's files may read it
        return None, None
    if mine is None:
        return None, None
    if mine.certificate and not membership.is_named_by(mine.certificate, mine.url):
        if strict:
            raise UsageError(
                "the certificate of the master that was joined does not name it, so pip cannot use its index",
                where=mine.url,
                hint="--index URL for another, or a new certificate by `master init --name HOST`",
            )
        return None, None
    return mine.index_url, mine.certificate


def _read(path: Path) -> str:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NodeError(f"the certificate cannot be read: {error}", where=str(path)) from error
    if "BEGIN CERTIFICATE" not in text:
        raise NodeError("this is no certificate", where=str(path), hint="a master's is certificate.pem")
    return text


def _say(done: switch.Done) -> None:
    for one in (*done.changed, *done.left):
        click.echo(harmless(one), err=True)
    if not done.changed:
        click.echo("nothing was changed.", err=True)
