# SPDX-License-Identifier: BSD-3-Clause
"""How the master listens: HTTPS, behind a web server, beside other masters; and how it stops."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest
from fix_master import OFFER, FarmOfOne

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import MasterError, NodeError, SettingsError, StorageError
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import LeaseRequest
from piwheels_node.core.places import CERTIFICATE, CERTIFICATE_KEY
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.running.certificate import keep_certificate, make_certificate
from piwheels_node.master.running.service import Master


@pytest.fixture
def certified(tmp_path):
    """A data directory with a certificate for this machine."""
    data = tmp_path / "master"
    (data / "keys").mkdir(parents=True)
    keep_certificate(data, ["localhost", "127.0.0.1"], datetime.now(UTC))
    return data


def test_a_master_with_a_certificate_speaks_https_only(certified):
    with Master(certified, Settings()) as master:
        url = master.start()
        assert url.startswith("https://127.0.0.1:")
        with MasterClient(url, certificate=(certified / CERTIFICATE).read_text()) as client:
            assert client.status() is not None
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https:", "http:"), trust_env=False)
        with pytest.raises(MasterError), MasterClient(url) as client:
            client.status()  # no authority knows this certificate


@pytest.mark.parametrize(("version", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_tls_1_2_is_spoken(certified, version, works):
    context = ssl.create_default_context(cafile=str(certified / CERTIFICATE))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else our side alone would refuse the old one
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with Master(certified, Settings()) as master:
        port = int(master.start().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            if works:
                with context.wrap_socket(connection, server_hostname="localhost") as secure:
                    assert secure.version() == version.replace("_", ".")
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(connection, server_hostname="localhost")


def test_a_certificate_of_ones_own_is_served(tmp_path):
    certificate, key = make_certificate(["farm.example", "127.0.0.1"], datetime.now(UTC))
    for name, content in (("farm.pem", certificate), ("farm.key", key)):
        (tmp_path / name).write_bytes(content)
    master_settings = MasterSettings(
        certificate=str(tmp_path / "farm.pem"), certificate_key=str(tmp_path / "farm.key")
    )
    settings = Settings(master=master_settings)
    with (
        Master(tmp_path / "master", settings) as master,
        MasterClient(master.start(), certificate=certificate.decode()) as client,
    ):
        assert client.status() is not None


def spoil(certified, how):
    if how == "key of another":
        _, key = make_certificate(["other"], datetime.now(UTC))
        (certified / CERTIFICATE_KEY).write_bytes(key)
    elif how == "rubbish":
        (certified / CERTIFICATE).write_bytes(b"rubbish")
    else:
        (certified / CERTIFICATE_KEY).unlink()


@pytest.mark.parametrize("how", ["key of another", "rubbish", "no key"])
def test_a_certificate_that_cannot_be_used_is_an_error_that_names_it(certified, how):
    spoil(certified, how)
    with pytest.raises(NodeError) as caught, Master(certified, Settings()) as master:
        master.start()

    assert str(certified) in caught.value.where
    assert "certificate" in caught.value.what


def test_a_certificate_without_its_key_is_an_error_in_the_settings(tmp_path):
    settings = Settings(master=MasterSettings(certificate="/x.pem"))
    with pytest.raises(SettingsError), Master(tmp_path / "master", settings) as master:
        master.start()


def test_behind_a_web_server_it_speaks_plain_http_and_believes_nothing_about_clients(certified):
    settings = Settings(master=MasterSettings(proxied=True))
    seen = []
    with Master(certified, settings) as master:
        inner = master.app._api

        async def spy(scope, receive, send):
            seen.append((scope["client"][0], scope["scheme"]))
            await inner(scope, receive, send)

        master.app._api = spy
        url = master.start()
        assert url.startswith("http://127.0.0.1:")
        lies = {
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Proto": "https",
            "Forwarded": "for=203.0.113.9",
        }
        assert httpx.get(f"{url}/api/v1/status", headers=lies, trust_env=False).status_code == 200

    assert seen == [("127.0.0.1", "http")]


def test_others_are_not_served_in_the_clear(tmp_path):
    settings = Settings(master=MasterSettings(host="0.0.0.0"))
    with (
        pytest.raises(NodeError, match="needs a certificate"),
        Master(tmp_path / "master", settings) as master,
    ):
        master.start()


def test_an_upload_in_progress_gets_its_time_when_the_master_stops(farm_of_one):
    """One that is about to be whole is taken; one that takes too long goes on with the next master."""
    lease = farm_of_one.leased()
    content = farm_of_one.wheel().read_bytes()
    stopping = threading.Thread(target=farm_of_one.master.stop)

    def trickle():
        yield content[:10]
        stopping.start()
        time.sleep(1)
        yield content[10:]

    headers = {
        "Authorization": f"Bearer {farm_of_one.keys['builder']}",
        "X-Lease-Token": lease.token,
        "Content-Length": str(len(content)),
    }
    answer = httpx.put(
        f"{farm_of_one.url}/api/v1/jobs/{lease.job_id}/wheel?offset=0&size={len(content)}",
        content=trickle(),
        headers=headers,
        trust_env=False,
    )
    stopping.join()

    assert (answer.status_code, answer.json()["offset"]) == (200, len(content))


def test_an_upload_that_does_not_end_holds_up_the_end_of_the_master_for_3_s_only(farm_of_one):
    lease = farm_of_one.leased()
    head = (
        f"PUT /api/v1/jobs/{lease.job_id}/wheel?offset=0&size=1000 HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {farm_of_one.keys['builder']}\r\nX-Lease-Token: {lease.token}\r\n"
        "Content-Length: 1000\r\n\r\nbegin"
    )
    port = int(farm_of_one.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode())
        time.sleep(0.3)
        begin = time.monotonic()
        farm_of_one.master.stop()
    assert 2 < time.monotonic() - begin < 20


def test_two_masters_serve_one_farm(tmp_path, pypi, new_postgres):
    """What is asked for at one is leased at the other, uploaded to the first, reported to the second."""
    url = new_postgres()
    one = FarmOfOne(tmp_path / "master", pypi, database=url)
    with Master(tmp_path / "master", one.settings) as second:
        there = second.start()
        with MasterClient(there, one.keys["builder"]) as client, MasterClient(there) as reader:
            one.add_sdist()
            waiting = LeaseRequest(targets=[OFFER], wait_s=20)
            got = []
            leasing = threading.Thread(target=lambda: got.append(client.lease(waiting)))
            leasing.start()
            time.sleep(0.5)
            asked = time.monotonic()
            one.ask()
            leasing.join()
            waited_s = time.monotonic() - asked
            (lease,) = got
            path = one.wheel()
            one.builder.upload_wheel(lease, path)
            assert client.report(lease, one.built(lease, path)).outcome is Outcome.BUILT
            assert reader.job(lease.job_id) == one.reader.job(lease.job_id)
        pages = [
            httpx.get(f"{at}/simple/little/", headers={"Accept": "*/*"}, trust_env=False)
            for at in (one.url, there)
        ]
        assert pages[0].status_code == 200
        assert pages[0].content == pages[1].content
        assert pages[0].headers["etag"] == pages[1].headers["etag"]
    one.close()
    assert waited_s < 15


def test_a_master_with_another_directory_than_the_others_is_refused(tmp_path, pypi, new_postgres):
    farm = FarmOfOne(tmp_path / "master", pypi, database=new_postgres())
    farm.publish()
    with pytest.raises(StorageError, match="not in this data directory"):
        Master(tmp_path / "forgotten-to-mount", farm.settings)
    farm.close()


def test_a_directory_keeps_to_its_database(tmp_path, pypi, new_postgres):
    settings = Settings()
    with Master(tmp_path / "master", settings):
        pass
    moved = dataclasses.replace(settings, master=MasterSettings(database=new_postgres()))
    with pytest.raises(StorageError, match="another database"):
        Master(tmp_path / "master", moved)
