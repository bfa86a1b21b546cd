# SPDX-License-Identifier: BSD-3-Clause
"""The home-made PyPI is good enough for the real pip."""

import subprocess
import sys
import zipfile

import httpx
import pytest


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "little-1.0-py3-none-any.whl"
    info = {"METADATA": "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n", "RECORD": ""}
    info["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in info.items():
            archive.writestr(f"little-1.0.dist-info/{name}", text)
    return path


def test_pip_downloads_a_file_that_was_added(pypi, wheel, tmp_path):
    pypi.add(wheel, project="Little")
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-deps"]
    where = [
        "--no-binary=:none:",
        "--no-build-isolation",
        "--index-url",
        pypi.index_url,
        "-d",
        str(tmp_path / "got"),
    ]
    subprocess.run([*pip, *where, "little"], check=True, capture_output=True)
    assert (tmp_path / "got" / wheel.name).read_bytes() == wheel.read_bytes()
    assert "/simple/little/" in pypi.requests


def test_faults_come_and_go(pypi, wheel):
    pypi.add(wheel, project="little")
    url = f"{pypi.url}/files/little/{wheel.name}"
    with httpx.Client() as client:
        pypi.fail("/files/", 503)
        assert client.get(url).status_code == 503
        pypi.fail("/files/", "truncate")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(url)
        pypi.fail("/files/", "hang")
        with pytest.raises(httpx.ReadTimeout):
            client.get(url, timeout=0.1)
        pypi.fail("/files/", None)
        assert client.get(url).content == wheel.read_bytes()
        assert client.get(url, headers={"Range": "bytes=4-7"}).content == wheel.read_bytes()[4:8]
        assert client.get(f"{pypi.url}/simple/nothing/").status_code == 404
