# SPDX-License-Identifier: BSD-3-Clause
"""Downloads that are cut: what came is kept, the rest is asked for, and the hash decides."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from piwheels_node.builder.caches import downloads as module
from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

CONTENT = os.urandom(1 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 1 << 24


@dataclass
class Asked:
    """A request, and what it was answered."""

    range: str | None
    if_range: str | None
    status: int


@dataclass
class FileServer:
    """Serves one file. `cuts` are the bytes after which the next answers end; then they are whole."""

    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    shift: int = 0
    "How far the parts that it sends begin from where they were asked for."
    asked: list[Asked] = field(default_factory=list)
    hang: threading.Event | None = None
    "Where set, an answer that is cut stays open until then."
    url: str = ""

    def validators(self) -> list[str]:
        return [value for name, value in self.headers.items() if name in {"ETag", "Last-Modified"}]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """A test reads `asked`."""

    def do_GET(self) -> None:
        about = self.server.about
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        status, first = 200, 0
        if asked and about.ranges and (if_range is None or if_range in about.validators()):
            status, first = 206, int(asked[1]) + about.shift
            if first >= len(about.content):
                status, first = 416, len(about.content)
        about.asked.append(Asked(self.headers.get("Range"), if_range, status))
        body = about.content[first:]
        self.send_response(status)
        for name, value in about.headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(about.content) - 1}/{len(about.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = about.cuts.pop(0) if about.cuts else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
            if about.hang:
                self.wfile.flush()
                about.hang.wait(60)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    about: FileServer


@pytest.fixture
def served():
    about = FileServer()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.about = about
    about.url = f"http://127.0.0.1:{server.server_address[1]}/big-1.tar.gz"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield about
    if about.hang:
        about.hang.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    made = Downloads(tmp_path / "downloads", threading.Event())
    yield made
    made.close()


def get(downloads, served, sha256=SHA256, **more):
    with downloads.get(served.url, sha256, "big-1.tar.gz", LIMIT, **more) as held:
        assert [path.name for path in held.path.parent.iterdir()] == ["big-1.tar.gz"]
        return held.path.read_bytes()


def test_what_was_cut_goes_on_where_it_ended(downloads, served):
    served.cuts = [300_000, 200_000]

    assert get(downloads, served) == CONTENT

    assert [one.status for one in served.asked] == [200, 206, 206]
    assert served.asked[2] == Asked("bytes=500000-", '"one"', 206)


def test_a_file_that_changed_meanwhile_is_sent_whole(downloads, served):
    new = os.urandom(5000)

    class Cuts(list):
        def pop(self, *_):
            served.content, served.headers = new, {"ETag": '"two"'}
            return super().pop(0)

    served.cuts = Cuts([300_000])

    assert get(downloads, served, hashlib.sha256(new).hexdigest()) == new

    assert [one.status for one in served.asked] == [200, 200]
    assert served.asked[1].if_range == '"one"'


def test_a_weak_tag_is_no_validator_and_a_date_is(downloads, served):
    date = "Tue, 02 Jan 2024 03:04:05 GMT"
    served.headers = {"ETag": 'W/"one"', "Last-Modified": date}
    served.cuts = [1000]

    assert get(downloads, served) == CONTENT
    assert served.asked[1] == Asked("bytes=1000-", date, 206)


def test_without_a_validator_the_hash_decides(downloads, served):
    served.headers = {}
    served.cuts = [1000]

    assert get(downloads, served) == CONTENT
    assert served.asked[1] == Asked("bytes=1000-", None, 206)


def test_without_validator_and_hash_it_begins_anew(downloads, served):
    served.headers = {}
    served.cuts = [1000]

    assert get(downloads, served, None) == CONTENT
    assert [one.range for one in served.asked] == [None, None]


def test_a_server_without_ranges_sends_it_whole(downloads, served):
    served.ranges = False
    served.cuts = [1000]

    assert get(downloads, served) == CONTENT
    assert [one.status for one in served.asked] == [200, 200]


def test_parts_that_do_not_go_together_are_fetched_whole_before_anybody_is_blamed(downloads, served):
    entry = downloads.shelf.root / SHA256
    entry.mkdir()
    (entry / ".partial").write_bytes(b"x" * 1000)
    (entry / ".partial.json").write_text('{"url": "", "validator": ""}')

    assert get(downloads, served) == CONTENT
    assert [one.status for one in served.asked] == [206, 200]


@pytest.mark.parametrize("shift", [-10, 10])
def test_another_part_than_was_asked_for_is_not_added(downloads, served, shift):
    served.cuts = [1000]
    served.shift = shift

    assert get(downloads, served) == CONTENT
    assert [one.status for one in served.asked] == [200, 206, 200]


def test_all_but_the_name_was_there(downloads, served):
    """Killed between the last byte and the rename: nothing is asked for."""
    entry = downloads.shelf.root / SHA256
    entry.mkdir()
    (entry / ".partial").write_bytes(CONTENT)
    (entry / ".partial.json").write_text('{"url": "", "validator": ""}')

    assert get(downloads, served) == CONTENT
    assert not served.asked


def test_more_than_there_is_was_there(downloads, served):
    entry = downloads.shelf.root / SHA256
    entry.mkdir()
    (entry / ".partial").write_bytes(CONTENT + b"more")
    (entry / ".partial.json").write_text('{"url": "", "validator": ""}')

    assert get(downloads, served) == CONTENT
    assert [one.status for one in served.asked] == [416, 200]


def test_a_note_that_cannot_be_read_means_to_begin_anew(downloads, served):
    entry = downloads.shelf.root / SHA256
    entry.mkdir()
    (entry / ".partial").write_bytes(CONTENT[:1000])
    (entry / ".partial.json").write_text('{"url":')

    assert get(downloads, served) == CONTENT
    assert [one.range for one in served.asked] == [None]


def test_a_wrong_file_is_refused_and_not_kept(downloads, served):
    served.cuts = [1000]

    with pytest.raises(BuildError) as caught:
        get(downloads, served, "0" * 64)

    assert caught.value.reason is FailureReason.HASH_MISMATCH
    assert not any(downloads.shelf.root.iterdir())


def test_a_connection_that_is_cut_before_a_byte_each_time_is_given_up(downloads, served):
    served.cuts = [0] * 10

    with pytest.raises(BuildError) as caught:
        get(downloads, served)

    assert caught.value.reason is FailureReason.FETCH_FAILED
    assert len(served.asked) == 3


def test_a_connection_that_is_cut_after_some_bytes_each_time_comes_to_an_end(downloads, served):
    served.cuts = [200_000] * 5

    assert get(downloads, served) == CONTENT


def test_what_came_before_it_was_given_up_is_kept_for_the_next(downloads, served):
    served.cuts = [300_000, 0, 0, 0]
    with pytest.raises(BuildError):
        get(downloads, served)

    assert get(downloads, served) == CONTENT
    assert served.asked[-1].range == "bytes=300000-"


def test_too_large_a_file_is_refused_also_in_parts(downloads, served):
    served.cuts = [300_000]

    with pytest.raises(BuildError) as caught:
        downloads.get(served.url, SHA256, "big-1.tar.gz", 500_000)

    assert caught.value.reason is FailureReason.BAD_ARCHIVE
    assert not any(downloads.shelf.root.iterdir())


def test_a_builder_that_was_killed_goes_on_where_it_was(downloads, served, tmp_path):
    served.cuts, served.hang = [400_000], threading.Event()
    script = (
        "import sys, threading; from pathlib import Path\n"
        "from piwheels_node.builder.caches.downloads import Downloads\n"
        "downloads = Downloads(Path(sys.argv[1]), threading.Event())\n"
        "downloads.get(sys.argv[2], sys.argv[3], 'big-1.tar.gz', 1 << 24)"
    )
    command = [sys.executable, "-c", script, downloads.shelf.root, served.url, SHA256]
    process = subprocess.Popen(command)
    partial = downloads.shelf.root / SHA256 / ".partial"
    until = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size >= 300_000) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = partial.stat().st_size

    assert get(downloads, served) == CONTENT
    assert 300_000 <= had <= 400_000
    assert served.asked[-1] == Asked(f"bytes={had}-", '"one"', 206)


def test_a_file_that_a_power_cut_emptied_is_fetched_again(downloads, served):
    get(downloads, served)
    (downloads.shelf.root / SHA256 / "big-1.tar.gz").write_bytes(b"")

    assert get(downloads, served) == CONTENT
    assert len(served.asked) == 2


def test_a_file_that_is_there_is_asked_of_nobody(downloads, served):
    get(downloads, served)

    assert get(downloads, served) == CONTENT
    assert len(served.asked) == 1


def test_builds_that_want_the_same_file_at_once_fetch_it_once(downloads, served):
    other = Downloads(downloads.shelf.root, threading.Event())

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda n: get((downloads, other)[n % 2], served), range(4)))

    other.close()
    assert got == [CONTENT] * 4
    assert len(served.asked) == 1


def test_one_that_is_stopped_lets_the_next_go_on(downloads, served):
    served.cuts, served.hang = [400_000], threading.Event()
    stop = threading.Event()
    threading.Timer(2.0, stop.set).start()

    with pytest.raises(BuildError) as caught:
        get(downloads, served, stop=stop)

    assert "stop" in str(caught.value)
    assert get(downloads, served) == CONTENT
    assert served.asked[-1].status == 206
