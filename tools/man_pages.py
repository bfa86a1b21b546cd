# SPDX-License-Identifier: BSD-3-Clause
"""A man page for every command, and the completion for bash, from the commands themselves.

    python3 tools/man_pages.py --out DIR [--date YYYY-MM-DD]

writes DIR/piwheels-node.1, DIR/piwheels-node-build.1, ... and DIR/piwheels-node.bash. What a page says is
what `--help` says: the text of the command, its options, its example, and the exit codes of all. The package
is made with them (debian/rules).
"""

from __future__ import annotations

import argparse
import datetime as dt
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete

from piwheels_node import __version__
from piwheels_node.cli.main import group

PROGRAM = "piwheels-node"
_EXIT = (
    ("0", "all went well"),
    ("2", "the call or a setting is wrong"),
    ("3", "something failed"),
    ("130", "interrupted, or nobody reads the results any more"),
)


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--date", default=dt.datetime.now(dt.UTC).date().isoformat())
    called = parser.parse_args()
    called.out.mkdir(parents=True, exist_ok=True)
    everything = dict(commands(group, (PROGRAM,)))
    for words, command in everything.items():
        name = "-".join(words)
        (called.out / f"{name}.1").write_text(page(words, command, set(everything), called.date))
    complete = BashComplete(group, {}, PROGRAM, f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE")
    (called.out / f"{PROGRAM}.bash").write_text(complete.source().lstrip("\n"))


def commands(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command and all below it, each with the words that call it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, (*words, name))


def page(words: tuple[str, ...], command: click.Command, names: set[tuple[str, ...]], date: str) -> str:
    """One man page, as troff."""
    context = click.Context(command, info_name=" ".join(words))
    text = inspect.cleandoc(command.help or "")
    summary = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        f'.TH "{"-".join(words).upper()}" "1" "{date}" "{PROGRAM} {__version__}" "User commands"',
        '.SH "NAME"',
        f"{escaped('-'.join(words))} \\- {escaped(summary)}",
        '.SH "SYNOPSIS"',
        f".B {escaped(' '.join(words))}",
        escaped(" ".join(command.collect_usage_pieces(context))),
        '.SH "DESCRIPTION"',
        *paragraphs(text),
        *options(command, context),
    ]
    if isinstance(command, click.Group):
        lines += ['.SH "COMMANDS"']
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and (*words, name) in names:
                whole = "-".join((*words, name))
                lines += [".TP", f".BR {escaped(whole)} (1)", escaped(below.get_short_help_str(limit=200))]
    if command.epilog:
        lines += ['.SH "EXAMPLE"', *paragraphs(command.epilog.removeprefix("Example: "), kept=True)]
    lines += ['.SH "EXIT STATUS"']
    for code, meaning in _EXIT:
        lines += [".TP", f".B {code}", escaped(meaning)]
    lines += ['.SH "FILES"', ".TP", ".I /etc/piwheels\\-node/*.toml", "settings of this machine"]
    lines += [".TP", ".I /usr/share/doc/piwheels\\-node/docs/", "all settings, commands and reasons"]
    near = [one for one in (words[:-1], (PROGRAM,)) if one and one != words]
    if near:
        lines += [
            '.SH "SEE ALSO"',
            *(f".BR {escaped('-'.join(one))} (1)" for one in dict.fromkeys(near)),
        ]
    return "\n".join(lines) + "\n"


def options(command: click.Command, context: click.Context) -> list[str]:
    """The section of a command's options."""
    every = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = [record for one in every if (record := one.get_help_record(context))]
    lines = ['.SH "OPTIONS"'] if records else []
    for spelling, meaning in records:
        lines += [".TP", f".B {escaped(spelling)}", escaped(meaning)]
    return lines


def paragraphs(text: str, *, kept: bool = False) -> list[str]:
    """Text as paragraphs; lines that begin with a space, and all of what is `kept`, keep their shape."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text.replace("\b\n", "").strip("\n")):
        if not block.strip():
            continue
        if kept or block.startswith(" "):
            lines += [".PP", ".nf", *(escaped(line) for line in block.splitlines()), ".fi"]
        else:
            lines += [".PP", escaped(" ".join(block.split()))]
    return lines


def escaped(text: str) -> str:
    """Text that troff takes as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
