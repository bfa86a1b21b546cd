# SPDX-License-Identifier: BSD-3-Clause
"""Asking an index: what comes back, what is kept, and what each failure is called."""

import time
from datetime import UTC, datetime

import pytest

from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.master.pypi import index as module
from piwheels_node.master.pypi.index import PyPI, default_index_url


@pytest.fixture
def asked(pypi, tmp_path):
    path = tmp_path / "Little_One-1.0.tar.gz"
    path.write_bytes(b"an sdist")
    pypi.add(
        path, project="little-one", requires_python=">=3.8", upload_time=datetime(2024, 5, 6, tzinfo=UTC)
    )
    client = PyPI(pypi.index_url, timeout_s=5, max_age_s=60, retry_delay_s=0.01)
    yield client
    client.close()


def test_a_project_comes_back_with_all_that_is_listed(asked, pypi):
    project = asked.project("Little.One")
    (file,) = project.files
    assert file.is_sdist
    assert file.url == f"{pypi.url}/files/little-one/Little_One-1.0.tar.gz"
    assert (file.size_bytes, file.requires_python, file.yanked) == (8, ">=3.8", None)
    assert file.uploaded_at == datetime(2024, 5, 6, tzinfo=UTC)
    assert len(file.sha256) == 64


def test_an_answer_is_kept_for_a_while(asked, pypi):
    asked.project("little-one")
    asked.project("LITTLE_ONE")
    assert pypi.requests == ["/simple/little-one/"]


def test_an_answer_gets_too_old(asked, pypi):
    asked._max_age_s = 0
    asked.project("little-one")
    asked.project("little-one")
    assert len(pypi.requests) == 2


def test_an_unknown_project_is_not_on_pypi(asked):
    with pytest.raises(NotOnPyPIError) as error:
        asked.project("no-such-project")
    assert error.value.hint == "is the name right?"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", "-", "a b", "é", "a?b", "%2e"])
def test_a_name_that_no_project_can_have_is_not_even_asked_for(asked, pypi, name):
    with pytest.raises(NotOnPyPIError):
        asked.project(name)
    assert pypi.requests == []


@pytest.mark.parametrize(("status", "tries"), [(503, 3), (429, 3), (403, 1), ("truncate", 3)])
def test_a_failing_index_is_tried_again_only_where_that_may_help(asked, pypi, status, tries):
    pypi.fail("/simple/", status)
    with pytest.raises(PyPIError, match="could not be asked about little-one"):
        asked.project("little-one")
    assert len(pypi.requests) == tries


def test_an_index_that_recovers_is_no_error(asked, pypi):
    pypi.fail("/simple/", 503)
    asked._retry_delay_s = 0
    original, answers = asked._get, []

    def get(url, deadline, etag=None):
        answers.append(original(url, deadline, etag))
        pypi.fail("/simple/", None)
        return answers[-1]

    asked._get = get
    assert asked.project("little-one").files
    assert [answer.status for answer in answers] == [503, 200]


def test_an_index_that_hangs_is_given_up_after_the_time_allowed(asked, pypi):
    pypi.fail("/simple/", "hang")
    asked._timeout_s = 0.2
    begin = time.monotonic()
    with pytest.raises(PyPIError):
        asked.project("little-one")
    assert time.monotonic() - begin < 15


def test_an_unreachable_index_is_an_error_without_the_password_in_its_url():
    client = PyPI("http://user:secret@127.0.0.1:9/simple/", timeout_s=1, retry_delay_s=0)
    with pytest.raises(PyPIError) as error:
        client.project("little-one")
    assert error.value.where == "http://127.0.0.1:9/simple/little-one/"
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"meta": {"api-version": "2.0"}, "files": []}',
        b'{"meta": [], "files": 7}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_listing_is_an_error(asked, pypi, body):
    pypi.page = lambda path, as_json: ("application/json", body)
    with pytest.raises(PyPIError, match="cannot be read"):
        asked.project("little-one")


def test_an_answer_that_never_ends_is_cut_off(asked, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 100)
    with pytest.raises(PyPIError, match="larger than 100 bytes"):
        asked.project("little-one")


def test_the_default_is_the_index_that_pip_is_set_to(monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    configuration = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    configuration.write_text("[global]\nindex-url = http://127.0.0.1:1/configured/\n")
    assert default_index_url() == "http://127.0.0.1:1/configured/"
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/from-environment/")
    assert default_index_url() == "http://127.0.0.1:1/from-environment/"


def test_an_index_that_is_no_web_address_is_refused(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    with pytest.raises(PyPIError, match="does not say which index"):
        default_index_url()


def test_without_a_setting_the_index_of_pip_is_asked(pypi, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", pypi.index_url)
    client = PyPI()
    with pytest.raises(NotOnPyPIError):
        client.project("little-one")
    assert pypi.requests == ["/simple/little-one/"]
    client.close()
