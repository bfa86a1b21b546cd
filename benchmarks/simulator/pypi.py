# SPDX-License-Identifier: BSD-3-Clause
"""A PyPI of any size on loopback, made up as it is asked: list, change log, and a page for each project.

    with HugePyPI(736_000) as pypi:     a process of its own, so that its work is not measured
        pypi.index_url                  the Simple API in JSON, with ETags; /pypi answers XML-RPC
        pypi.release(7)                 project 7 has a new version from now on, which the change log tells

A page follows from its number alone, so nothing is kept but what was released since. Shares are those known
of PyPI in 2026: 29 of 100 projects have one version, the mean is 11; one version of eight is a pre-release;
3.5 of 100 projects have wheels for platforms, a fifth of them by abi3; a quarter has no sdist.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import subprocess
import sys
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, cast

import uvloop

NOW = datetime(2026, 12, 1, tzinfo=UTC)
FIRST_SERIAL = 30_000_000
ONE_VERSION, PRE, SDIST_ONLY, PLATFORM, ABI3, WHEEL_ONLY = 0.293, 0.127, 0.21, 0.035, 0.2, 0.3
"""Shares of projects, but `PRE`: of versions; the last two of projects with such wheels."""

_MOST_VERSIONS = 9475
_PLATFORMS = (
    "win_amd64",
    "macosx_11_0_arm64",
    "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "musllinux_1_2_x86_64",
)
_REQUIRES = ('">=3.8"', '">=3.9"', '">=3.10"', '">=3.7"', '">=3.6"', '"<4.0,>=3.10"', "null", '">=3.11"')
_LIST_PIECE = 2000


def name_of(number: int) -> str:
    """The name of a project: as long as names are."""
    return f"thing-{number:06d}"


def page(number: int, released: int = 0, serial: int = 0) -> tuple[int, bytes]:
    """Serial and page of a project, of which so many versions were released since, the last at `serial`."""
    chance = random.Random(number)
    versions = 1
    if chance.random() >= ONE_VERSION:
        versions = min(2 + int(chance.lognormvariate(1.97, 1.15)), _MOST_VERSIONS)
    draw = chance.random()
    tags: tuple[str, ...] = ("py3-none-any",)
    has_sdist = True
    if draw < SDIST_ONLY:
        tags = ()
    elif draw < SDIST_ONLY + PLATFORM:
        pythons = ("cp39-abi3",) if chance.random() < ABI3 else ("cp311-cp311", "cp312-cp312", "cp313-cp313")
        tags = tuple(f"{python}-{platform}" for python in pythons for platform in _PLATFORMS)
    else:
        has_sdist = chance.random() >= WHEEL_ONLY
    newest = NOW - timedelta(days=1 + chance.expovariate(1 / 900))
    step = timedelta(days=min(20.0, 3000 / versions))
    files: list[str] = []
    names: list[str] = []
    stem = f"thing_{number:06d}"
    for place in range(versions + released):
        pre = f"rc{place}" if chance.random() < PRE and place < versions - 1 else ""
        version = f"{place // 10}.{place % 10}.0{pre}"
        is_new = place >= versions
        at = (NOW if is_new else newest - step * (versions - place - 1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        requires = _REQUIRES[chance.getrandbits(3)]
        names.append(f'"{version}"')
        if has_sdist or is_new:
            files.append(_file(chance, f"{stem}-{version}.tar.gz", at, requires))
        files.extend(_file(chance, f"{stem}-{version}-{tag}.whl", at, requires) for tag in tags if not is_new)
    serial = serial or FIRST_SERIAL + number
    text = (
        f'{{"alternate-locations":[],"files":[{",".join(files)}],'
        f'"meta":{{"_last-serial":{serial},"api-version":"1.4"}},"name":"{name_of(number)}",'
        f'"project-status":{{"status":"active"}},"versions":[{",".join(names)}]}}'
    )
    return serial, text.encode()


def _file(chance: random.Random, filename: str, at: str, requires: str) -> str:
    sha = f"{chance.getrandbits(256):064x}"
    metadata = f'{{"sha256":"{chance.getrandbits(256):064x}"}}' if filename.endswith(".whl") else "false"
    return (
        f'{{"core-metadata":{metadata},"data-dist-info-metadata":{metadata},"filename":"{filename}",'
        f'"hashes":{{"sha256":"{sha}"}},"provenance":null,"requires-python":{requires},'
        f'"size":{chance.getrandbits(22)},"upload-time":"{at}",'
        f'"url":"http://files.invalid/packages/{sha[:2]}/{sha[2:4]}/{sha[4:]}/{filename}","yanked":false}}'
    )


class HugePyPI:
    """The server, in a process of its own; a context that ends it."""

    def __init__(self, projects: int) -> None:
        self.projects = projects
        words = [sys.executable, __file__, str(projects)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    @property
    def index_url(self) -> str:
        """Where the Simple API is."""
        return f"{self.url}/simple/"

    def release(self, number: int) -> None:
        """Release another version of a project: an sdist."""
        urllib.request.urlopen(f"{self.url}/release/{number}", data=b"").close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _World:
    """What is there: `projects` of them, and what was released since."""

    def __init__(self, projects: int) -> None:
        self.projects = projects
        self.released: dict[int, tuple[int, int]] = {}
        self.log: list[list[object]] = []
        self.serial = FIRST_SERIAL + projects

    def release(self, number: int) -> None:
        before, _ = self.released.get(number, (0, 0))
        # Serials grow over restarts, though what was released is forgotten then.
        self.serial = max(self.serial + 1, FIRST_SERIAL + self.projects + int(time.time()))
        self.released[number] = before + 1, self.serial
        self.log.append([name_of(number), "1", 1, "new release", self.serial])

    def list(self) -> Iterator[bytes]:
        """The list of all projects, in pieces."""
        yield f'{{"meta":{{"_last-serial":{self.serial},"api-version":"1.4"}},"projects":['.encode()
        for begin in range(0, self.projects, _LIST_PIECE):
            entries = [
                f'{{"_last-serial":{self.released.get(number, (0, FIRST_SERIAL + number))[1]},'
                f'"name":"{name_of(number)}"}}'
                for number in range(begin, min(begin + _LIST_PIECE, self.projects))
            ]
            yield (("," if begin else "") + ",".join(entries)).encode()
        yield b"]}"


class _Connection(asyncio.Protocol):
    """HTTP/1.1, as much as a follower says of it."""

    def __init__(self, world: _World) -> None:
        self._world = world
        self._left = b""
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._list: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        self._left += data
        while (end := self._left.find(b"\r\n\r\n")) >= 0:
            head = self._left[:end]
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._left) < whole:
                return
            body, self._left = self._left[end + 4 : whole], self._left[whole:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        etag = re.search(rb"(?i)if-none-match: *([^\r]+)", head)
        match path.strip("/").split("/"):
            case ["simple"]:
                self._list = asyncio.get_running_loop().create_task(self._send_list())
            case ["simple", name] if name.startswith("thing-"):
                number = int(name.removeprefix("thing-"))
                serial, text = page(number, *self._world.released.get(number, (0, 0)))
                tag = f'"{serial}"'.encode()
                self._send(b"304 Not Modified" if etag and etag[1] == tag else b"200 OK", text, tag)
            case ["pypi"] if method == "POST":
                (since,), _ = xmlrpc.client.loads(body.decode())
                rows = [row for row in self._world.log if row[4] > since]
                text = xmlrpc.client.dumps((rows,), methodresponse=True).encode()
                self._send(b"200 OK", text, b'"log"')
            case ["release", number]:
                self._world.release(int(number))
                self._send(b"200 OK", b"", b'"x"')
            case _:
                self._send(b"404 Not Found", b"", b'"x"')

    def _send(self, status: bytes, body: bytes, etag: bytes) -> None:
        body = b"" if status.startswith(b"304") else body
        head = (
            b"HTTP/1.1 %b\r\nContent-Type: application/vnd.pypi.simple.v1+json\r\n"
            b"ETag: %b\r\nContent-Length: %d\r\n\r\n"
        )
        self._transport.write(head % (status, etag, len(body)) + body)

    async def _send_list(self) -> None:
        write = self._transport.write
        write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/vnd.pypi.simple.v1+json\r\n\r\n"
        )
        for piece in self._world.list():
            write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._may_write.wait()
        write(b"0\r\n\r\n")


async def _serve(projects: int) -> None:
    world = _World(projects)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(world), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(int(sys.argv[1])))
