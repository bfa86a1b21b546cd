# SPDX-License-Identifier: BSD-3-Clause
"""Why a build failed, read from its log by the rules of `data/rules.toml`.

    log -> blocks of whole lines -> lines that have a word of a rule -> the rule's pattern -> the best rule

The first rule of the file that fits any line wins, however late in the log; of one rule the first line
counts, or the last where the rule says so. The log is hostile input: of a line only the first 4096
characters are looked at, and a rule that has had 2 MiB of lines to look at gives up.
This module imports only the standard library and `core`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from piwheels_node.core.failure import FailureReason

_BLOCK_BYTES = 1 << 20
_LINE_CHARACTERS = 4096
_LINE_BYTES = 2 * _LINE_CHARACTERS  # escapes for colours are cut out of these before the line is cut
_CONTEXT_BYTES = 1000
_RULE_BUDGET_BYTES = 2 << 20
_MAX_HITS = 4096  # lines of one block that are looked at for one word
_EVIDENCE_CHARACTERS = 500
_CAPTURED_CHARACTERS = 200
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|.?)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Diagnosis:
    """The reason and what shows it; `evidence_line` counts from 1, by line feeds."""

    reason: FailureReason
    captured: str | None = None
    "What the reason is about: `ffi.h`, `asound`, `cmake`."
    evidence: str | None = None
    "The line, without escapes for colours, cut to 500 characters."
    evidence_line: int | None = None


@dataclass(frozen=True)
class Rule:
    """One rule of the file; its fields are explained there."""

    reason: FailureReason
    needs: tuple[bytes, ...]
    pattern: re.Pattern[str]
    example: str
    name: str | None = None
    after: re.Pattern[str] | None = None
    last: bool = False
    note: str = ""


@dataclass(frozen=True)
class Rules:
    """All rules in their order, and what never counts."""

    rules: tuple[Rule, ...]
    ignored: tuple[re.Pattern[str], ...]

    def ignores(self, line: str) -> bool:
        """True where a line asks whether something is there, and lives with a no."""
        return any(pattern.search(line) for pattern in self.ignored)


@cache
def all_rules() -> Rules:
    """Read the file of rules, once."""
    text = resources.files("piwheels_node.builder").joinpath("data/rules.toml").read_text("utf-8")
    document = tomllib.loads(text)
    reasons = {reason.value: reason for reason in FailureReason}
    rules = tuple(
        Rule(
            reason=reasons[one["reason"]],
            needs=tuple(word.encode() for word in one["needs"]),
            pattern=re.compile(one["pattern"], re.MULTILINE),
            example=one["example"],
            name=one.get("name"),
            after=re.compile(one["after"]) if "after" in one else None,
            last=one.get("last", False),
            note=one.get("note", ""),
        )
        for one in document["rule"]
    )
    ignored = tuple(re.compile(one["pattern"], re.MULTILINE) for one in document["ignore"])
    return Rules(rules, ignored)


def diagnose(log: Path | Iterable[bytes]) -> Diagnosis:
    """Find the reason in a log, given as a file or in pieces of any size; UNKNOWN where no rule fits."""
    rules = all_rules()
    search = _Search(rules)
    for block in _blocks(_pieces(log) if isinstance(log, Path) else log):
        search.look_at(block)
    return search.found or Diagnosis(FailureReason.UNKNOWN)


@dataclass(frozen=True)
class _Block:
    """Some whole lines, the end of what stands before them, and the number of the first of them."""

    content: bytes
    before: bytes
    first_line: int


class _Search:
    """The best diagnosis so far, and the rules that could still better it."""

    def __init__(self, rules: Rules) -> None:
        self.found: Diagnosis | None = None
        self._rules = rules
        self._open = list(rules.rules)
        self._budget = {id(rule): _RULE_BUDGET_BYTES for rule in rules.rules}

    def look_at(self, block: _Block) -> None:
        hits: dict[bytes, list[int]] = {}
        for position, rule in enumerate(self._open):
            found = self._by(rule, block, hits)
            if found:
                self.found = found
                self._open = self._open[: position + (1 if rule.last else 0)]
                return

    def _by(self, rule: Rule, block: _Block, hits: dict[bytes, list[int]]) -> Diagnosis | None:
        for word in rule.needs:
            if word not in hits:
                hits[word] = _lines_with(word, block.content)
        starts = sorted({start for word in rule.needs for start in hits[word]}, reverse=rule.last)
        for start in starts:
            raw = block.content[start : start + _LINE_BYTES].partition(b"\n")[0]
            self._budget[id(rule)] -= len(raw)
            if self._budget[id(rule)] < 0:
                return None
            found = self._match(rule, raw, block, start)
            if found:
                return found
        return None

    def _match(self, rule: Rule, raw: bytes, block: _Block, start: int) -> Diagnosis | None:
        line = plain(raw)
        match = rule.pattern.search(line)
        if not match or self._rules.ignores(line):
            return None
        if rule.after and not rule.after.search(_before(block, start)):
            return None
        captured = next((group for group in match.groups() if group), rule.name)
        first = line.rfind("\n", 0, match.start()) + 1  # a line that was overwritten in place has several
        return Diagnosis(
            rule.reason,
            captured=captured[:_CAPTURED_CHARACTERS] if captured else None,
            evidence=line[first:].partition("\n")[0].strip()[:_EVIDENCE_CHARACTERS],
            evidence_line=block.first_line + block.content.count(b"\n", 0, start),
        )


def plain(raw: bytes) -> str:
    r"""A line as a person sees it: no escapes, no blanks before it, in several lines where it has them.

    It has several where it was overwritten in place, or is what Python shows for the output of a program
    (`b'...\nfatal error: ...'`, as bluepy prints it).
    """
    text = _ESCAPE.sub("", raw[:_LINE_BYTES].decode("utf-8", "replace"))
    text = text.replace("\r", "\n").replace("\\n", "\n")
    lines = (_CONTROL.sub("", line).lstrip() for line in text.split("\n"))
    return "\n".join(lines).rstrip("\n")[:_LINE_CHARACTERS]


def _before(block: _Block, start: int) -> str:
    context = block.content[max(0, start - _CONTEXT_BYTES) : start]
    if start < _CONTEXT_BYTES:
        context = block.before[-(_CONTEXT_BYTES - start) :] + context
    return context.decode("utf-8", "replace")


def _lines_with(word: bytes, content: bytes) -> list[int]:
    """Where the lines begin that have the word in what is looked at of them."""
    starts: list[int] = []
    at = content.find(word)
    while at >= 0 and len(starts) < _MAX_HITS:
        start = content.rfind(b"\n", 0, at) + 1
        if at - start < _LINE_BYTES:
            starts.append(start)
        end = content.find(b"\n", at)
        if end < 0:
            break
        at = content.find(word, end)
    return starts


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            yield piece


def _blocks(pieces: Iterable[bytes]) -> Iterator[_Block]:
    """Whole lines; of a line that began in an earlier piece no more than its beginning is kept."""
    rest, before, number = b"", b"", 1
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            content = rest + piece[:end]
            yield _Block(content, before, number)
            number += content.count(b"\n")
            before, rest = content[-_CONTEXT_BYTES:], b""
        if len(rest) < _LINE_BYTES:
            rest += piece[end : end + _LINE_BYTES]
    if rest:
        yield _Block(rest, before, number)
