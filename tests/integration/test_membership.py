# SPDX-License-Identifier: BSD-3-Clause
"""A machine joins a real master with TLS: what is kept, for whose eyes, and what follows if it goes wrong."""

from __future__ import annotations

import contextlib
import ssl
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from fix_command import clean_environ
from fix_master import FarmOfOne

from piwheels_node.builder import trust
from piwheels_node.builder.farm import membership
from piwheels_node.client import MasterClient
from piwheels_node.client.pinning import split_token
from piwheels_node.core.builders import BuilderState
from piwheels_node.core.errors import (
    KeyRefusedError,
    MasterError,
    MasterUnreachableError,
    NodeError,
    StorageError,
    UsageError,
)
from piwheels_node.core.messages import Hello, OfferedTarget, TokenRequest
from piwheels_node.master.running.certificate import keep_certificate

OFFER = OfferedTarget(name="cp311-linux_x86_64-debian12", environment_id="env-1")


def make_farm(data, pypi, names=("127.0.0.1",), **settings):
    """A master that serves HTTPS; its clients believe its certificate."""
    (data / "keys").mkdir(parents=True)
    keep_certificate(data, names, datetime.now(UTC))
    farm = FarmOfOne(data, pypi, **settings)
    certificate = (data / "certificate.pem").read_text()
    for name, key in (("operator", "operator"), ("builder", "builder"), ("reader", "")):
        getattr(farm, name).close()
        setattr(farm, name, MasterClient(farm.url, farm.keys.get(key), certificate=certificate))
    return farm


@pytest.fixture
def farm(tmp_path, pypi):
    made = make_farm(tmp_path / "master", pypi)
    yield made
    made.close()


@pytest.fixture
def other_farm(tmp_path, pypi):
    made = make_farm(tmp_path / "other", pypi)
    yield made
    made.close()


@pytest.fixture
def data(tmp_path):
    return tmp_path / "builder"


def token(farm, **wanted):
    return farm.operator.create_token(TokenRequest(**wanted)).token


def files(data):
    """What is kept of the membership: name -> mode."""
    return {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (data / "membership").iterdir()
        if path.name != "lock"
    }


def test_what_is_kept_is_for_the_owner_only_and_opens_the_master(farm, data):
    done = membership.join(data, farm.url, token(farm), "pi-1")

    assert (done.state, done.changed) == (BuilderState.ACTIVE, True)
    assert files(data) == {"master.json": 0o600}
    assert stat.S_IMODE((data / "membership").stat().st_mode) == 0o700
    kept = membership.load(data)
    assert kept == done.membership
    with MasterClient(kept.url, kept.key, certificate=kept.certificate) as client:
        client.hello(Hello(targets=[OFFER]))
    assert farm.reader.builder("pi-1").machine.fingerprint


def test_joining_again_changes_not_a_byte_and_spends_no_use(farm, data):
    once = token(farm, uses=1)
    membership.join(data, farm.url, once, "pi-1")
    before = (data / "membership" / "master.json").read_bytes()

    again = membership.join(data, farm.url, once, "pi-1")

    assert not again.changed
    assert (data / "membership" / "master.json").read_bytes() == before
    assert len(farm.reader.builders()) == 2  # and the one of the fixture


def test_a_host_without_a_scheme_is_asked_by_https(farm, data):
    done = membership.join(data, farm.url.removeprefix("https://"), token(farm), "pi-1")

    assert done.membership.url == farm.url


def test_a_man_in_the_middle_is_told_from_the_master_and_gets_nothing(farm, other_farm, data):
    with pytest.raises(MasterError, match="another server"):
        membership.join(data, other_farm.url, token(farm), "pi-1")

    assert files(data) == {} if (data / "membership").exists() else True
    assert [one.name for one in other_farm.reader.builders()] == ["pi"]


def test_a_key_goes_to_the_master_that_gave_it_only(farm, other_farm, data):
    first = membership.join(data, farm.url, token(farm), "pi-1").membership

    second = membership.join(data, other_farm.url, token(other_farm), "pi-1").membership

    assert second.key != first.key
    assert membership.load(data) == second
    with (
        MasterClient(second.url, first.key, certificate=second.certificate) as client,
        pytest.raises(KeyRefusedError),
    ):
        client.hello(Hello(targets=[OFFER]))


def test_a_refusal_leaves_what_was_there(farm, data):
    kept = membership.join(data, farm.url, token(farm), "pi-1").membership
    spent = token(farm)
    membership.join(data.with_name("second"), farm.url, spent, "pi-2")

    with pytest.raises(MasterError, match="used up"):
        membership.join(data.with_name("third"), farm.url, spent, "pi-3")
    farm.operator.revoke("pi-1")
    with pytest.raises(MasterError, match="revoked"):
        membership.join(data, farm.url, token(farm), "pi-1")

    assert membership.load(data) == kept
    assert membership.load(data.with_name("third")) is None
    assert files(data) == {"master.json": 0o600}


def test_nothing_is_sent_where_nothing_can_be_kept(farm, data):
    data.mkdir()
    (data / "membership").write_text("a file in the way")

    with pytest.raises(StorageError, match="cannot be used"):
        membership.join(data, farm.url, token(farm), "pi-1")

    assert [one.name for one in farm.reader.builders()] == ["pi"]


_JOIN = """
import resource, sys
from pathlib import Path
from piwheels_node.builder import trust
from piwheels_node.builder.farm import membership
from piwheels_node.core.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    membership.join(Path(sys.argv[1]), *sys.argv[2:])
except StorageError as error:
    print(error.what)
"""


def test_a_full_disk_is_noticed_before_a_use_of_the_token_is_spent(farm, data):
    once = token(farm)
    done = subprocess.run(
        [sys.executable, "-c", _JOIN, data, farm.url, once, "pi-1"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "cannot be written" in done.stdout
    assert files(data) == {}
    assert membership.join(data, farm.url, once, "pi-1").changed


def test_one_service_runs_per_directory_and_joining_waits_for_its_end(farm, data):
    kept = membership.join(data, farm.url, token(farm), "pi-1").membership
    assert not membership.is_served(data)

    with membership.serving(data):
        assert membership.is_served(data)
        with pytest.raises(NodeError, match="service is running"), membership.serving(data):
            pass
        with pytest.raises(NodeError, match="service is running"):
            membership.join(data, farm.url, token(farm), "pi-new")
        with pytest.raises(NodeError, match="service is running"):
            membership.leave(data)

    assert not membership.is_served(data)
    assert membership.load(data) == kept


def test_leaving_forgets_the_key(farm, data):
    kept = membership.join(data, farm.url, token(farm), "pi-1").membership
    membership.certificates_for_pip(data, kept)

    left = membership.leave(data)

    assert (left.membership, left.untold) == (kept, None)
    assert membership.load(data) is None
    assert files(data) == {}
    assert membership.leave(data) is None


def test_the_master_knows_who_left_and_a_token_brings_the_machine_back(farm, data):
    kept = membership.join(data, farm.url, token(farm), "pi-1").membership
    membership.leave(data)

    with (
        MasterClient(farm.url, kept.key, certificate=kept.certificate) as client,
        pytest.raises(KeyRefusedError),
    ):
        client.leave()
    assert farm.operator.builder("pi-1").state is BuilderState.LEFT
    assert [event.kind for event in farm.operator.builder_events("pi-1")][-1] == "left"
    assert membership.join(data, farm.url, token(farm), "pi-1").state is BuilderState.ACTIVE


def test_a_master_that_is_away_is_left_all_the_same(tmp_path, pypi, data):
    with contextlib.closing(make_farm(tmp_path / "away", pypi)) as farm:
        kept = membership.join(data, farm.url, token(farm), "pi-1").membership

    left = membership.leave(data)

    assert left.membership == kept
    assert isinstance(left.untold, MasterUnreachableError)
    assert files(data) == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"url": 1, "odd": 2}'])
def test_what_is_kept_and_cannot_be_read_is_an_error_with_a_hint(data, content):
    (data / "membership").mkdir(parents=True)
    (data / "membership" / "master.json").write_bytes(content)

    with pytest.raises(StorageError, match="cannot be read") as caught:
        membership.load(data)
    assert "join again" in str(caught.value)


def test_pip_believes_the_system_and_the_master(farm, data):
    kept = membership.join(data, farm.url, token(farm), "pi-1").membership

    path = membership.certificates_for_pip(data, kept)

    context = ssl.create_default_context(cafile=path)
    assert len(context.get_ca_certs()) > 10
    assert kept.certificate in path.read_text()
    farm.publish()
    pip = [sys.executable, "-m", "pip", "--isolated", "download", "--no-deps", *trust.pip_options(path)]
    done = subprocess.run(
        [*pip, "-d", data / "got", "--index-url", kept.index_url, "little"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environ(**trust.pip_variables(path)),
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (data / "got").iterdir()] == ["little-1.0-py3-none-any.whl"]


def test_whether_the_certificate_names_the_host_is_known(tmp_path, pypi, data):
    farm = make_farm(tmp_path / "named", pypi, names=("farm.local", "192.0.2.7"))
    try:
        kept = membership.join(data, farm.url, token(farm), "pi-1").membership
    finally:
        farm.close()

    assert not membership.is_named_by(kept.certificate, kept.url)
    assert membership.is_named_by(kept.certificate, "https://FARM.local:8443")
    assert membership.is_named_by(kept.certificate, "https://192.0.2.7")
    assert not membership.is_named_by(kept.certificate, "https://192.0.2.8")
    assert not membership.is_named_by("nonsense", kept.url)


def test_a_master_on_loopback_without_tls_needs_no_certificate(farm_of_one, data):
    made = farm_of_one.operator.create_token(TokenRequest()).token
    assert split_token(made)[1] is None

    kept = membership.join(data, farm_of_one.url, made, "pi-1").membership

    assert kept.certificate is None
    assert membership.certificates_for_pip(data, kept) is None
    with pytest.raises(UsageError, match="https only"):
        membership.join(data, "http://192.0.2.1", made, "pi-1")
    with pytest.raises(MasterUnreachableError):
        membership.join(data, "http://127.0.0.1:9", made, "pi-1")


def test_many_machines_join_at_once_with_their_own_directories(farm, tmp_path):
    shared = token(farm, uses=8)
    problems = []

    def machine(number):
        try:
            membership.join(tmp_path / f"b{number}", farm.url, shared, f"pi-{number}")
        except NodeError as error:
            problems.append(error)

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert len({membership.load(tmp_path / f"b{number}").key for number in range(8)}) == 8
