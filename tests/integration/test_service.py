# SPDX-License-Identifier: BSD-3-Clause
"""The master as a service, and what its client makes of one that is not there."""

import json
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import (
    MasterError,
    MasterUnreachableError,
    NodeError,
    UsageError,
)
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.running.service import Master


def test_a_directory_is_served_by_one_process_only(farm_of_one):
    code = (
        "import sys; from pathlib import Path; from piwheels_node.core.settings import Settings;"
        "from piwheels_node.master.running.service import Master\n"
        "try: Master(Path(sys.argv[1]), Settings())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(farm_of_one.data)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pid = (farm_of_one.data / "lock").read_text().strip()
    who = f"process {pid}" if pid else "masters that share a database"
    assert said.startswith(f"NodeError {who} serve")


def test_a_port_in_use_is_an_error_with_a_hint(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(master=MasterSettings(port=taken.getsockname()[1]))
        with Master(tmp_path, settings) as master, pytest.raises(NodeError, match="another program") as error:
            master.start()
    assert "master.port" in error.value.hint


def test_a_port_that_cannot_be_is_an_error(tmp_path):
    settings = Settings(master=MasterSettings(port=70_000))
    with Master(tmp_path, settings) as master, pytest.raises(NodeError, match="up to 65535"):
        master.start()


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match="the data directory cannot be used"):
        Master(tmp_path / "file" / "data", Settings())


def test_stopping_ends_all_waiting_at_once_and_may_be_done_twice(farm_of_one):
    got = []
    waiting = threading.Thread(target=lambda: got.append(farm_of_one.lease(wait_s=30)))
    waiting.start()
    time.sleep(0.3)
    begin = time.monotonic()
    farm_of_one.master.stop()
    waiting.join(20)
    assert got == [None]
    assert time.monotonic() - begin < 15
    farm_of_one.master.stop()


def test_a_pypi_that_hangs_does_not_keep_the_master_from_stopping(farm_of_one):
    farm_of_one.pypi.fail("/simple/", "hang")
    object.__setattr__(farm_of_one.master._context.pypi, "_timeout_s", 20)

    def ask():
        with pytest.raises(MasterError):
            farm_of_one.ask()

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    begin = time.monotonic()
    farm_of_one.master.stop()
    assert time.monotonic() - begin < 15
    farm_of_one.pypi.close_hanging()
    asking.join(10)
    assert not asking.is_alive()


def test_a_master_that_starts_again_knows_everything(farm_of_one, pypi):
    path = farm_of_one.publish()
    etag = httpx.get(f"{farm_of_one.index_url}little/").headers["etag"]
    farm_of_one.close()
    with Master(farm_of_one.data, farm_of_one.settings) as again:
        url = again.start()
        answer = httpx.get(f"{url}/simple/little/")
        assert path.name in answer.text
        assert answer.headers["etag"] == etag
        assert again.knows_key("builder", farm_of_one.keys["builder"])


def test_a_master_that_is_not_there_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with MasterClient(url) as client, pytest.raises(MasterUnreachableError) as error:
        client.status()
    assert (error.value.where, error.value.refused) == (url, False)
    assert error.value.hint


def test_something_else_than_a_master_is_told_apart(pypi):
    with MasterClient(pypi.url) as client, pytest.raises(MasterError, match="nothing that a master says"):
        client.status()
    pypi.page = lambda path, as_json: ("application/json", json.dumps({"not": "it"}).encode())
    with MasterClient(pypi.url) as client, pytest.raises(MasterError, match="cannot be read"):
        client.status()


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.7:8080",
        "http://master.local",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "",
        "http://[",
        "http://127.0.0.1.example",
    ],
)
def test_a_key_never_goes_in_the_clear(url):
    with pytest.raises(UsageError):
        MasterClient(url, "key")


def test_https_and_this_machine_are_fine():
    for url in ("https://master.local", "http://localhost:1", "http://127.8.8.8", "http://[::1]:80"):
        MasterClient(url, "key").close()
