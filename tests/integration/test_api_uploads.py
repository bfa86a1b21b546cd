# SPDX-License-Identifier: BSD-3-Clause
"""Logs and wheels on their way to the master: by offset, over cut connections, within bounds."""

import contextlib
import socket
import threading

import httpx
import pytest
from fix_master import with_settings

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import (
    StorageError,
)
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import LogPart, Report


def test_a_log_grows_and_is_read_from_any_byte(farm_of_one):
    lease = farm_of_one.leased()
    send = farm_of_one.builder.send_log
    assert farm_of_one.reader.log(lease.job_id) == b""
    assert send(lease, 0, b"one\n") == 4
    assert send(lease, 4, b"two\n") == 8
    assert send(lease, 0, b"one\ntwo\nthree\n") == 14, "a part that overlaps is written once"
    assert send(lease, 99, b"gap") == 14, "after a gap nothing is written"
    assert farm_of_one.reader.log(lease.job_id) == b"one\ntwo\nthree\n"
    assert farm_of_one.reader.log(lease.job_id, 8) == b"three\n"
    assert farm_of_one.reader.log(lease.job_id, 99) == b""


def test_a_log_that_is_too_long_is_cut_and_the_builder_goes_on(farm_of_one, monkeypatch):
    monkeypatch.setattr("piwheels_node.master.api.builders.MARGIN_BYTES", 10 - (64 << 20))
    lease = farm_of_one.leased()
    assert farm_of_one.builder.send_log(lease, 0, b"0123456789abc") == 13
    assert farm_of_one.builder.send_log(lease, 13, b"def") == 16
    assert farm_of_one.reader.log(lease.job_id) == b"0123456789"


def test_each_lease_has_a_log_of_its_own(farm_of_one):
    first = farm_of_one.leased()
    farm_of_one.builder.send_log(first, 0, b"first")
    farm_of_one.builder.hand_back(first)
    second = farm_of_one.lease()
    farm_of_one.builder.send_log(second, 0, b"second")
    assert farm_of_one.reader.log(second.job_id) == b"second"
    assert len(list((farm_of_one.data / "logs").rglob("*.log"))) == 2


def wheel_part(farm, lease, content, *, offset, size, key="builder"):
    return httpx.put(
        f"{farm.url}/api/v1/jobs/{lease.job_id}/wheel",
        params={"offset": offset, "size": size},
        headers={"Authorization": f"Bearer {farm.keys[key]}", "X-Lease-Token": lease.token},
        content=content,
    )


def test_an_upload_goes_on_by_offset_and_a_wrong_one_is_put_right(farm_of_one):
    lease = farm_of_one.leased()
    assert wheel_part(farm_of_one, lease, b"12345", offset=0, size=9).json() == {"offset": 5}
    wrong = wheel_part(farm_of_one, lease, b"6789", offset=7, size=9)
    assert wrong.status_code == 409
    assert (wrong.json()["code"], wrong.json()["offset"]) == ("offset", 5)
    assert wheel_part(farm_of_one, lease, b"6789", offset=5, size=9).json() == {"offset": 9}
    assert wheel_part(farm_of_one, lease, b"x", offset=9, size=9).status_code == 422


def test_an_upload_that_was_cut_goes_on_where_it_was(farm_of_one):
    lease = farm_of_one.leased()
    path = farm_of_one.wheel(files={"little.py": "", "little.bin": bytes(range(256)) * 4096}, compression=0)
    content = path.read_bytes()
    with Cutter(farm_of_one.url, after_bytes=600_000) as cutter:
        client = MasterClient(cutter.url, farm_of_one.keys["builder"])
        client.upload_wheel(lease, path)
        client.close()
    assert cutter.connections > 1
    assert cutter.sent_bytes < 2 * len(content), "it did not begin anew"
    (upload,) = (farm_of_one.data / "incoming").iterdir()
    assert upload.read_bytes() == content
    report = farm_of_one.built(lease, path)
    assert farm_of_one.builder.report(lease, report).outcome is Outcome.BUILT


def test_a_wheel_that_is_too_large_is_refused_before_it_is_sent(farm_of_one):
    lease = farm_of_one.leased()
    answer = wheel_part(farm_of_one, lease, b"x", offset=0, size=(2 << 30) + 1)
    assert answer.status_code == 413
    assert "a wheel may have" in answer.json()["what"]


def test_a_master_without_disk_says_so_and_the_lease_lives_on(farm_of_one):
    lease = farm_of_one.leased()
    with_settings(farm_of_one, min_free_bytes=1 << 60)
    with pytest.raises(StorageError, match="MiB of disk left"):
        farm_of_one.builder.upload_wheel(lease, farm_of_one.wheel())
    with_settings(farm_of_one, min_free_bytes=0)
    assert farm_of_one.hand_in(lease, farm_of_one.wheel()).outcome is Outcome.BUILT


def test_the_end_of_a_log_may_come_with_the_report(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.builder.send_log(lease, 0, b"first, ")
    told = Report(
        token=lease.token, outcome=Outcome.FAILED, duration_s=1, log=LogPart.of(4, b"t, \xffthen the rest\n")
    )
    farm_of_one.builder.report(lease, told)
    assert farm_of_one.reader.log(lease.job_id) == b"first, \xffthen the rest\n"


class Cutter:
    """A proxy that cuts its first connection after so many bytes of the request."""

    def __init__(self, url, after_bytes):
        host, port = url.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._left = after_bytes
        self.connections = self.sent_bytes = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            upstream = socket.create_connection(self._target)
            for pump in (self._pump_up, self._pump_down):
                self._threads.append(threading.Thread(target=pump, args=(client, upstream)))
                self._threads[-1].start()

    def _pump_up(self, client, upstream):
        first = self.connections == 1
        with client:
            while data := _received(client):
                upstream.sendall(data)
                self.sent_bytes += len(data)
                self._left -= len(data)
                if first and self._left < 0:
                    break
            _ended(upstream, client)

    def _pump_down(self, client, upstream):
        with upstream:
            while data := _received(upstream):
                client.sendall(data)
            _ended(client)


def _received(source):
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _ended(*sockets):
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
