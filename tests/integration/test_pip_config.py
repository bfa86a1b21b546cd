# SPDX-License-Identifier: BSD-3-Clause
"""The real pip and uv with an /etc of the test's, in a mount namespace: they use what we say they use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fix_master import FarmOfOne
from fix_pypi import HomeMadePyPI

UV = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
OTHER = "[global]\nextra-index-url=http://127.0.0.1:1/other/simple\n"

BOTH = """
import json, os, sys
from pathlib import Path
from pip._internal.commands import create_command
from piwheels_node.consumer import pip_files

told = []
os.environ = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "XDG_"))}
for case in json.load(sys.stdin):
    places = [Path(name) for name in case["all"]]
    for place in places:
        place.unlink(missing_ok=True)
    for name, text in case["files"].items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    before = dict(os.environ)
    os.environ.update(case["environ"])
    sys.prefix = case["environ"].get("VIRTUAL_ENV", "/usr")
    options, _ = create_command("install").parse_args([])
    view = pip_files.look(pip_files.Surroundings.ours())
    told.append([
        [options.index_url, options.extra_index_urls, options.no_index],
        [view.index_url, list(view.extra_index_urls), view.no_index],
    ])
    os.environ.clear()
    os.environ.update(before)
json.dump(told, sys.stdout)
"""


class Machine:
    """A machine whose /etc is the test's, and whose user has an empty home."""

    def __init__(self, place, pypi):
        self.etc, self.home = place / "etc", place / "home"
        self.etc.mkdir()
        self.home.mkdir()
        self.pypi = pypi

    def run(self, *words, stdin=None, **environ):
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
        told = {
            "HOME": str(self.home),
            "PIP_INDEX_URL": self.pypi.index_url,
            "UV_DEFAULT_INDEX": self.pypi.index_url,
            "UV_CACHE_DIR": str(self.home / "uv"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        return subprocess.run(
            [
                "bwrap",
                "--dev-bind",
                "/",
                "/",
                "--bind",
                str(self.etc),
                "/etc",
                "--die-with-parent",
                "--",
                *words,
            ],
            env={**kept, **told, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.home,
        )

    def node(self, *words, **environ):
        done = self.run(sys.executable, "-m", "piwheels_node.cli", *words, **environ)
        assert done.returncode == 0, done.stderr
        return done

    def files(self):
        return {
            str(path.relative_to(self.etc)): path.read_bytes()
            for path in self.etc.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A master with one wheel in its index."""
    pypi = HomeMadePyPI()
    farm = FarmOfOne(tmp_path_factory.mktemp("shelf") / "master", pypi)
    farm.publish()
    pypi.projects.clear()  # only the farm has it
    yield farm
    farm.close()
    pypi.close()


@pytest.fixture
def machine(tmp_path, shelf):
    return Machine(tmp_path, shelf.pypi)


def cases(home):
    """Files and variables in many mixtures."""
    xdg, etc, old, user, venv, named = (
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf",
        f"{home}/.config/pip/pip.conf",
        f"{home}/venv/pip.conf",
        f"{home}/named.conf",
    )
    texts = [
        "[global]\nextra-index-url = a\n",
        "[global]\nextra_index_url =\n  b\n  # c\n  d\n",
        "[install]\nextra-index-url = e\n",
        "[global]\nextra-index-url =\n",
        "[global]\n--Extra-Index-URL: f g\n",
        "[download]\nextra-index-url = h\n",
        "[DEFAULT]\nextra-index-url = i\n[global]\nno-index = no\n",
        "[global]\nindex-url = j\nno-index = yes\n",
        "[install]\nextra-index-url =\n[global]\nextra-index-url = k\n",
    ]
    environs = [
        {},
        {"PIP_EXTRA_INDEX_URL": "v w"},
        {"PIP_EXTRA_INDEX_URL": ""},
        {"PIP_CONFIG_FILE": named},
        {"PIP_CONFIG_FILE": "/dev/null"},
        {"VIRTUAL_ENV": f"{home}/venv"},
        {"PIP_NO_INDEX": "1"},
        {"XDG_CONFIG_DIRS": f"{home}/one:{home}/two"},
        {"XDG_CONFIG_HOME": f"{home}/else"},
    ]
    places = [xdg, etc, old, user, venv, named, f"{home}/one/pip/pip.conf", f"{home}/else/pip/pip.conf"]
    for number in range(243):
        files = {
            place: texts[(number * 7 + index * index * 5 + number // 9) % len(texts)]
            for index, place in enumerate(places)
            if (number * 37 >> index) & 1
        }
        yield {"all": places, "files": files, "environ": environs[number % len(environs)]}


def test_pip_uses_what_we_say_it_uses(machine):
    asked = list(cases(machine.home))
    done = machine.run(sys.executable, "-c", BOTH, stdin=json.dumps(asked))

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len({json.dumps(real) for real, _ in told}) > 20
    for case, (real, ours) in zip(asked, told, strict=True):
        assert real[1:] == [ours[1], ours[2]], case
        assert ours[0] in {None, real[0]}, case


@pytest.mark.parametrize(
    "files",
    [{}, {"pip.conf": OTHER}, {"pip.conf": "[global]\nretries = 0\n"}],
    ids=["no file", "another index", "no index"],
)
def test_pip_installs_from_it_without_an_option_and_disable_takes_it_back(machine, shelf, files):
    for name, text in files.items():
        (machine.etc / name).write_text(text)
    before = machine.files()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--target",
        "t",
        "little",
    ]
    calm = {"PIP_RETRIES": "0"}

    assert machine.run(*install, **calm).returncode != 0
    machine.node("pip", "enable", "--index", shelf.url)
    done = machine.run(*install, **calm)
    assert "Successfully installed little-1.0" in done.stdout, done.stderr
    assert (machine.home / "t" / "little.py").exists()
    assert ("127.0.0.1:1/other" in done.stdout) == (OTHER in files.values())
    said = json.loads(machine.node("pip", "status", "--json").stdout)
    assert said["index"] == shelf.index_url
    assert said["pip"]["asks"]
    machine.node("pip", "disable")
    assert machine.files() == before
    assert machine.run(*install, **calm).returncode != 0


@pytest.mark.skipif(not UV, reason="uv is not here")
def test_uv_installs_from_it_without_an_option(machine, shelf):
    install = [UV, "pip", "install", "--python", sys.executable, "--target", "t", "little"]

    assert machine.run(*install).returncode != 0
    machine.node("pip", "enable", "--index", shelf.url)
    done = machine.run(*install)
    assert "little==1.0" in done.stderr, done.stderr
    assert (machine.home / "t" / "little.py").exists()
    assert json.loads(machine.node("pip", "status", "--json").stdout)["uv"]["asks"]
    machine.node("pip", "disable")
    shutil.rmtree(machine.home / "t")
    assert machine.run(*install).returncode != 0


def test_a_users_own_file_is_told_as_what_hides_it(machine, shelf):
    user = machine.home / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text(OTHER)
    said = machine.node("pip", "enable", "--index", shelf.url).stderr

    assert "Your own settings hide it" in said
    assert user.read_text() == OTHER
    told = machine.node("pip", "status").stdout
    assert f"extra-index-url = {shelf.index_url}: hidden by {user}" in told


def test_who_may_not_write_is_told_to_use_sudo(machine, shelf):
    if os.geteuid() == 0:
        shutil.chown(machine.home, "nobody")
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    else:
        machine.etc.chmod(0o555)
        words = []
    place = Path(sys.executable)
    if words and not all(one.stat().st_mode & 1 for one in (place.resolve(), *place.resolve().parents)):
        pytest.skip("an ordinary user cannot reach this Python")
    done = machine.run(
        *words, sys.executable, "-m", "piwheels_node.cli", "pip", "enable", "--index", shelf.url
    )

    assert done.returncode == 3
    assert "try: call it with sudo" in done.stderr
    machine.etc.chmod(0o755)


def test_who_has_joined_a_master_gets_its_index_without_naming_it(machine):
    data = machine.home / "data"
    (data / "membership").mkdir(parents=True)
    joined = {"url": "https://farm.test:8443", "name": "pi", "key": "secret", "certificate": None}
    (data / "membership" / "master.json").write_text(json.dumps(joined))
    machine.node("pip", "enable", "--data", str(data))

    assert (
        "extra-index-url = https://farm.test:8443/simple/\n" in (machine.etc / "xdg/pip/pip.conf").read_text()
    )
    told = machine.run(sys.executable, "-m", "pip", "config", "debug", PIP_INDEX_URL="").stdout
    assert "global.extra-index-url: https://farm.test:8443/simple/" in told


def test_without_a_master_it_is_the_public_index(machine):
    machine.node("pip", "enable", "--data", str(machine.home))

    assert b"www.piwheels.org/simple/" in machine.files()["xdg/pip/pip.conf"]
    assert b"secret" not in b"".join(machine.files().values())
