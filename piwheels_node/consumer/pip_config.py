# SPDX-License-Identifier: BSD-3-Clause
"""One line more in pip's configuration, and one line less: functions of the bytes of a file.

    added     the URL behind the others of [global] extra-index-url, or as the only one
    inserted  what was put in, to be remembered
    removed   the same taken out; what was there before comes back byte for byte
    own_file  the whole of /etc/xdg/pip/pip.conf, where nobody had one

The rest of a file is never written anew: comments, order, spaces and ends of lines stay. Each change is read
back as pip reads it before it is believed. There is never an [install] section made here: it would beat the
users' own files.
This module does no I/O, and imports only `core` and `pip_files`.
"""

from __future__ import annotations

import re

from piwheels_node.consumer.pip_files import EXTRA, GLOBAL_SECTION, parse, same_index
from piwheels_node.core.errors import NodeError

_HEADER = (
    b"# Made by piwheels-node: pip also asks the index below for wheels that fit this machine.\n"
    b"# `piwheels-node pip status` tells what pip uses, `sudo piwheels-node pip disable` takes this away.\n"
)
_INDENT = b"    "
_SECTION = re.compile(rb"^\[([^]]+)\]")
_KEY = re.compile(rb"^[ \t]*(--)?extra[-_]index[-_]url[ \t]*[=:]", re.IGNORECASE)
_COMMENT = (b"#", b";")


def own_file(url: str) -> bytes:
    """What the package's own file says, where nobody else had one."""
    return _HEADER + f"[{GLOBAL_SECTION}]\n{EXTRA} = {url}\n".encode()


def is_own_file(content: bytes) -> bool:
    """True where a file is one that `own_file` made, and nobody has changed it since."""
    if not content.startswith(_HEADER):
        return False
    try:
        urls = _urls(content)
    except ValueError:
        return False
    return len(urls) == 1 and content == own_file(urls[0])


def added(content: bytes, url: str, where: str) -> bytes:
    """The file with the URL as one line more; raises NodeError where pip would not read it so.

    Where the file has no such option yet, there is a line for it; where it has no [global], one for that too.
    """
    lines = content.splitlines(keepends=True)
    line = f"{EXTRA} = {url}".encode()
    if found := _option(lines):
        changed = _insert(lines, found[1], _indent(lines[found[0]]) + _INDENT + url.encode())
    elif (section := _section(lines)) is not None:
        neighbour = next((one for one in lines[section + 1 :] if _says_something(one)), b"")
        indent = b"" if _section_name(neighbour) else _indent(neighbour)
        changed = _insert(lines, section + 1, indent + line)
    else:
        changed = _insert(lines, len(lines), f"[{GLOBAL_SECTION}]\n".encode() + line)
    if not _differ_only_in(changed, content, [*_urls(content), url]):
        raise NodeError(
            "the line cannot be added without changing what else pip reads here",
            where=where,
            hint=f"add it by hand, to [{GLOBAL_SECTION}]: {EXTRA} = {url}",
        )
    return changed


def inserted(before: bytes, after: bytes) -> bytes:
    """What `added` put into a file."""
    same = (n for n, (one, two) in enumerate(zip(before, after, strict=False)) if one != two)
    start = next(same, len(before))
    return after[start : start + len(after) - len(before)]


def removed(content: bytes, url: str, put_in: bytes, where: str) -> bytes:
    """The file without what `added` put there, or else without the line that has the URL by now.

    As it is, where the URL is in no such line any more; raises NodeError where its line cannot be taken out.
    """
    if not any(same_index(one, url) for one in _urls(content)):
        return content
    left = [one for one in _urls(content) if not same_index(one, url)]
    ways = [_without_line(content, url)]
    if put_in and content.count(put_in) == 1:
        ways.insert(0, content.replace(put_in, b""))
    for changed in ways:
        if _differ_only_in(changed, content, left):
            return changed
    raise NodeError(
        "the line cannot be taken out without changing what else pip reads here",
        where=where,
        hint=f"take it out by hand: {url}",
    )


def _without_line(content: bytes, url: str) -> bytes:
    lines = content.splitlines(keepends=True)
    found = _option(lines)
    if not found:
        return content
    first, end = found
    for number in range(first + 1, end):
        if same_index(lines[number].strip().decode(errors="replace"), url):
            return _delete(lines, number)
    key = _KEY.match(lines[first])
    if key is None or not same_index(lines[first][key.end() :].strip().decode(errors="replace"), url):
        return content
    if end == first + 1:
        return _delete(lines, first)
    rest = lines[first].rstrip(b"\r\n")
    lines[first] = key[0] + lines[first][len(rest) :]
    return b"".join(lines)


def _insert(lines: list[bytes], at: int, line: bytes) -> bytes:
    """Put a line in, with the end that its neighbours have; a file whose last line has none stays such."""
    before, after = lines[:at], lines[at:]
    end = b"\r\n" if before and before[-1].endswith(b"\r\n") else b"\n"
    line = line.replace(b"\n", end)
    if before and not before[-1].endswith(b"\n"):
        return b"".join([*before, end, line, *after])
    return b"".join([*before, line, end, *after])


def _delete(lines: list[bytes], number: int) -> bytes:
    """Take a line out; where it was the last and had no end, the one before it loses its own."""
    kept = [*lines[:number], *lines[number + 1 :]]
    if number + 1 == len(lines) and not lines[-1].endswith(b"\n") and kept:
        kept[-1] = kept[-1].removesuffix(b"\n").removesuffix(b"\r")
    return b"".join(kept)


def _option(lines: list[bytes]) -> tuple[int, int] | None:
    """The option in [global]: its first line, and the one after its last that says something."""
    section = None
    for number, line in enumerate(lines):
        section = _section_name(line) or section
        if section == GLOBAL_SECTION and _KEY.match(line):
            end = number + 1
            for later in range(number + 1, len(lines)):
                if _says_something(lines[later]):
                    if len(_indent(lines[later])) <= len(_indent(line)):
                        break
                    end = later + 1
            return number, end
    return None


def _section(lines: list[bytes]) -> int | None:
    """The line with [global]."""
    return next((n for n, line in enumerate(lines) if _section_name(line) == GLOBAL_SECTION), None)


def _section_name(line: bytes) -> str | None:
    found = _SECTION.match(line)
    return found[1].decode(errors="replace") if found else None


def _says_something(line: bytes) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith(_COMMENT)


def _indent(line: bytes) -> bytes:
    return line[: len(line) - len(line.lstrip(b" \t"))]


def _urls(content: bytes) -> list[str]:
    return parse(content).get((GLOBAL_SECTION, EXTRA), "").split()


def _differ_only_in(changed: bytes, content: bytes, urls: list[str]) -> bool:
    """True where pip reads these URLs in the changed file, and all else as before."""
    try:
        after, before = parse(changed), parse(content)
    except ValueError:
        return False
    key = (GLOBAL_SECTION, EXTRA)
    before.pop(key, None)
    return after.pop(key, "").split() == urls and after == before
