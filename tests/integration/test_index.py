# SPDX-License-Identifier: BSD-3-Clause
"""The index over real HTTP: what pages say, what clients may ask, and that pip and uv install from it."""

import contextlib
import gzip
import hashlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from fix_master import FarmOfOne
from fix_pypi import HomeMadePyPI
from sqlalchemy import select

from piwheels_node.core.errors import StorageError
from piwheels_node.master.database.models import Wheel

JSON = "application/vnd.pypi.simple.v1+json"
PIP_ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A farm for the tests that only read, with one wheel in its index."""
    pypi = HomeMadePyPI()
    farm = FarmOfOne(tmp_path_factory.mktemp("shelf") / "master", pypi)
    yield farm, farm.publish(requires_python=">=3.8")
    farm.close()
    pypi.close()


@pytest.fixture
def farm(request):
    """The farm of the test: its own where it asks for one, else the shelf."""
    if "farm_of_one" in request.fixturenames:
        return request.getfixturevalue("farm_of_one")
    return request.getfixturevalue("shelf")[0]


@pytest.fixture
def wheel(request, farm):
    """The wheel of the project `little`, published."""
    if "farm_of_one" in request.fixturenames:
        return farm.publish(requires_python=">=3.8")
    return request.getfixturevalue("shelf")[1]


@pytest.fixture
def web(farm):
    with httpx.Client(base_url=farm.url, trust_env=False) as client:
        yield client


def page(web, name="little", accept=JSON):
    return web.get(f"/simple/{name}/", headers={"Accept": accept})


def file_url(wheel):
    return f"/files/little/{wheel.name}"


def test_the_json_page_says_all_that_the_peps_want(web, wheel):
    answer = page(web)
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    assert document["meta"] == {"api-version": "1.4"}
    assert (document["name"], document["versions"]) == ("little", ["1.0"])
    (file,) = document["files"]
    content = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("little-1.0.dist-info/METADATA")
    assert file.pop("upload-time").endswith("Z")
    assert file == {
        "filename": wheel.name,
        "url": f"../../files/little/{wheel.name}",
        "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
        "size": len(content),
        "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
        "requires-python": ">=3.8",
        "yanked": False,
    }
    beside = web.get(f"{file_url(wheel)}.metadata")
    assert beside.content == metadata
    assert web.get(file_url(wheel)).content == content


def test_the_html_page_says_the_same(web, wheel):
    answer = page(web, accept="text/html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    link = re.search(r'<a href="([^"]+)"([^>]*)>([^<]+)</a>', answer.text)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert link[1] == f"../../files/little/{wheel.name}#sha256={sha256}"
    hashes = set(re.findall(r'data-(?:core|dist-info)-metadata="(sha256=[0-9a-f]{64})"', link[2]))
    assert len(hashes) == 1
    assert 'data-requires-python="&gt;=3.8"' in link[2]
    assert link[3] == wheel.name
    assert '<meta name="pypi:repository-version" content="1.4">' in answer.text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PIP_ACCEPT, JSON),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html; charset=utf-8"),
        ("application/json", None),
    ],
)
def test_the_form_of_a_page_is_negotiated(web, wheel, accept, expected):
    answer = page(web, accept=accept)
    assert answer.status_code == (200 if expected else 406)
    assert answer.headers.get("content-type") == expected
    assert "Accept" in answer.headers["vary"]


def test_a_page_is_sent_compressed_to_who_can_unpack_it(web, wheel):
    with web.stream("GET", "/simple/little/", headers={"Accept": JSON, "Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(raw)
    plain = web.get("/simple/little/", headers={"Accept": JSON, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert answer.headers["etag"] != plain.headers["etag"]


def test_a_page_that_is_known_is_not_sent_again_until_it_changes(web, wheel, farm_of_one):
    first = page(web)
    assert first.headers["cache-control"] == "public, max-age=60"
    etag = first.headers["etag"]
    headers = {"Accept": JSON, "If-None-Match": f'"other", {etag}'}
    again = web.get("/simple/little/", headers=headers)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert web.get("/simple/little/", headers=headers | {"Accept": "text/html"}).status_code == 200
    farm_of_one.publish(version="1.1")
    changed = web.get("/simple/little/", headers=headers)
    assert changed.status_code == 200
    assert changed.json()["versions"] == ["1.0", "1.1"]


def test_a_304_renders_nothing(web, wheel, farm, monkeypatch):
    etag = page(web).headers["etag"]
    index = farm.master.app._index
    monkeypatch.setattr(index, "_get_page", None)
    answer = web.get("/simple/little/", headers={"Accept": JSON, "If-None-Match": etag})
    assert answer.status_code == 304


def test_a_project_without_wheels_is_not_there(web, farm_of_one):
    farm_of_one.leased("waiting")
    for name in ("waiting", "unknown"):
        answer = page(web, name)
        assert (answer.status_code, answer.content) == (404, b"not here\n")


def test_a_project_whose_wheels_were_all_withdrawn_is_not_there(web, wheel, farm_of_one):
    def withdraw(session):
        row = session.scalars(select(Wheel)).one()
        row.withdrawn_at = row.published_at
        row.release.project.serial += 1

    farm_of_one.master._database.write(withdraw)
    assert page(web).status_code == 404
    assert web.get(file_url(wheel)).status_code == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/simple", "simple/"),
        ("/simple/little", "little/"),
        ("/simple/Lit.Tle/", "../lit-tle/"),
        ("/simple/Lit_Tle", "lit-tle/"),
    ],
)
def test_names_are_normalised_by_a_redirect(web, path, location):
    answer = web.get(path)
    assert (answer.status_code, answer.headers["location"]) == (301, location)


@pytest.mark.parametrize(
    "path",
    [
        "/simple/%2e%2e/",
        "/simple/a/b/",
        "/simple//",
        "/simple/%00/",
        "/simple/%c3%a9/",
        "/files/little/..%2f..%2fdatabase.sqlite",
        "/files/..%2f..%2fdatabase.sqlite",
        "/files/../database.sqlite",
        "/files/little/little-1.0-py3-none-any.whl/x",
        "/files/other/little-1.0-py3-none-any.whl",
        "/files/little/little-1.0-py3-none-any.whl.metadata.metadata",
        "/files/little/%ff",
    ],
)
def test_no_path_leads_out_of_the_index(farm, wheel, path):
    host = farm.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
        connection.request("GET", path)  # as it is: httpx would tidy it up
        assert connection.getresponse().status == 404


def test_a_local_version_is_quoted_in_the_page_and_found(web, farm_of_one):
    farm_of_one.publish("little", "1.0+pi1")
    (file,) = page(web).json()["files"]
    assert "%2Bpi1" in file["url"]
    assert web.get(f"/simple/little/{file['url']}").status_code == 200


def test_the_list_of_projects_has_those_with_wheels(web, wheel, farm_of_one):
    farm_of_one.leased("waiting")
    answer = web.get("/simple/", headers={"Accept": JSON})
    assert answer.json() == {"meta": {"api-version": "1.4"}, "projects": [{"name": "little"}]}
    assert 'href="little/"' in web.get("/simple/").text
    known = web.get("/simple/", headers={"Accept": JSON, "If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304
    deadline = time.monotonic() + 60
    farm_of_one.lease()
    farm_of_one.publish("another")
    while len(web.get("/simple/", headers={"Accept": JSON}).json()["projects"]) < 2:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, None)),
        ("bytes=-7", (-7, None)),
        ("bytes=3-999999", (3, None)),
    ],
)
def test_a_file_is_sent_in_part(web, wheel, asked, expected):
    content = wheel.read_bytes()
    answer = web.get(file_url(wheel), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == content[slice(*expected)]
    first = expected[0] % len(content)
    shown = f"bytes {first}-{first + len(answer.content) - 1}/{len(content)}"
    assert answer.headers["content-range"] == shown
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=9-3", "nonsense"])
def test_a_range_that_is_not_understood_gives_the_whole_file(web, wheel, asked):
    answer = web.get(file_url(wheel), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, wheel.read_bytes())


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(web, wheel, asked):
    answer = web.get(file_url(wheel), headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{wheel.stat().st_size}"


def test_if_range_sends_the_whole_file_where_it_is_another(web, wheel):
    whole = web.get(file_url(wheel))
    for same in (whole.headers["etag"], whole.headers["last-modified"]):
        answer = web.get(file_url(wheel), headers={"Range": "bytes=0-3", "If-Range": same})
        assert answer.status_code == 206
    answer = web.get(file_url(wheel), headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (answer.status_code, answer.content) == (200, wheel.read_bytes())


def test_head_tells_all_but_the_body(web, wheel):
    for path in (file_url(wheel), f"{file_url(wheel)}.metadata", "/simple/little/", "/simple/"):
        head, got = web.head(path), web.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    assert web.head("/simple/unknown/").status_code == 404


def test_files_may_be_kept_for_ever(web, wheel):
    answer = web.get(file_url(wheel))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    known = web.get(file_url(wheel), headers={"If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304


def test_a_large_file_arrives_whole_and_a_client_that_goes_away_does_no_harm(web, farm_of_one):
    files = {"little.py": "", "little.bin": bytes(range(256)) * 16_384}
    large = farm_of_one.publish(files=files, compression=zipfile.ZIP_STORED)
    with web.stream("GET", file_url(large)) as answer:
        next(answer.iter_raw())
    assert web.get(file_url(large)).content == large.read_bytes()


def test_other_methods_are_refused(web, wheel):
    answer = web.post("/simple/little/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def broken(*_, **__):
    raise StorageError("the disk could not be read or written")


def break_database(farm, monkeypatch):
    monkeypatch.setattr(type(farm.master._database), "read", broken)
    monkeypatch.setattr(farm.master.app._index, "_serial", broken)


def test_a_broken_database_is_a_404_and_not_a_5xx(web, wheel, farm_of_one, monkeypatch, caplog):
    break_database(farm_of_one, monkeypatch)
    for path in ("/simple/little/", "/simple/", file_url(wheel)):
        assert web.get(path).status_code == 404
    assert caplog.text.count("the index has only what it remembers") == 1


@pytest.mark.parametrize("accept", [JSON, "text/html"])
def test_what_the_cache_has_goes_on_without_the_database(web, wheel, farm_of_one, monkeypatch, accept):
    farm_of_one.publish("other")
    wanted = ["/simple/little/", "/simple/", file_url(wheel), f"{file_url(wheel)}.metadata"]
    before = [web.get(path, headers={"Accept": accept}) for path in wanted]
    break_database(farm_of_one, monkeypatch)
    after = [web.get(path, headers={"Accept": accept}) for path in wanted]
    known = web.get(wanted[0], headers={"Accept": accept, "If-None-Match": before[0].headers["etag"]})

    assert [answer.status_code for answer in after] == [200] * 4
    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert [answer.headers["etag"] for answer in after] == [answer.headers["etag"] for answer in before]
    assert known.status_code == 304
    assert web.get(wanted[2], headers={"Range": "bytes=1-4"}).content == before[2].content[1:5]
    for path in ("/simple/other/", "/files/little/other-1.0-py3-none-any.whl", "/files/little/x.whl"):
        assert web.get(path).status_code == 404


def test_a_file_that_is_lost_or_cut_short_is_a_404(web, wheel, farm_of_one, caplog):
    stored = farm_of_one.data / "wheels" / "little" / wheel.name
    stored.write_bytes(wheel.read_bytes()[:-1])
    assert web.get(file_url(wheel)).status_code == 404
    stored.unlink()
    assert web.get(file_url(wheel)).status_code == 404
    assert caplog.text.count(wheel.name) >= 2


def test_a_wheel_is_yanked_where_pypi_yanked_its_source(web, wheel, farm_of_one):
    etag = page(web).headers["etag"]
    farm_of_one.add_sdist(yanked="a bad idea")
    farm_of_one.ask(version="1.0")
    answer = page(web)
    assert answer.headers["etag"] != etag
    assert answer.json()["files"][0]["yanked"] == "a bad idea"
    assert 'data-yanked="a bad idea"' in page(web, accept="text/html").text


def test_the_same_page_of_another_database_has_another_etag(web, wheel, farm_of_one, shelf):
    with httpx.Client(base_url=shelf[0].url, trust_env=False) as other:
        assert page(other).headers["etag"] != page(web).headers["etag"]


@pytest.fixture
def venv(tmp_path):
    """A fresh virtual environment without pip: pip and uv of the tests install into it."""
    path = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    return path / "bin" / "python"


def imported(python):
    code = "import little; print(little.VERSION)"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_pip_installs_from_the_index(farm, wheel, venv):
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir"]
    index = ["--index-url", farm.pypi.index_url, "--extra-index-url", farm.index_url]
    install = [*pip, "--python", str(venv), "install", *index, "--only-binary", ":all:", "little"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(venv) == "1.0"
    assert f"{wheel.name}.metadata" in done.stdout, "pip reads the metadata beside the wheel"


def test_uv_installs_from_the_index_and_asks_pypi_for_the_rest(farm_of_one, pypi, tmp_path, venv):
    farm_of_one.publish(install_requires=["other"])
    made = farm_of_one.wheel("other", "2.0")
    pypi.add(made, project="other")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv, "uv is in the environment of the tests"
    index = ["--index", farm_of_one.index_url, "--default-index", pypi.index_url]
    places = ["--python", str(venv), "--cache-dir", str(tmp_path / "cache"), "--no-config"]
    install = [uv, "pip", "install", *places, *index, "--only-binary", ":all:", "little"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(venv) == "1.0"
    listed = [uv, "pip", "list", "--python", str(venv), "--format", "json", "--no-config"]
    packages = json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)
    assert {(one["name"], one["version"]) for one in packages} >= {("little", "1.0"), ("other", "2.0")}
