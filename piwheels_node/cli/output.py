# SPDX-License-Identifier: BSD-3-Clause
"""Lists on standard output: a table for people, JSON for scripts. Foreign words are never read as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from piwheels_node.core.messages import Message
from piwheels_node.core.text import harmless


def print_messages(messages: Iterable[Message]) -> None:
    """A list of objects, as JSON."""
    whole = [one.model_dump(mode="json") for one in messages]
    print(json.dumps(whole, indent=2))  # noqa: T201 - this is what was asked for


def print_message(message: Message) -> None:
    """One object, as JSON."""
    print(json.dumps(message.model_dump(mode="json"), indent=2))  # noqa: T201 - this is what was asked for


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without lines; a narrow terminal folds what does not fit."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    Console(highlight=False).print(table)
