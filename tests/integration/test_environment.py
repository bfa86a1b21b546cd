# SPDX-License-Identifier: BSD-3-Clause
"""Build environments: made from wheels only, by real pip, from an index on loopback; kept and shared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sdists import make_backend_wheel, make_sdist, make_wheel

from piwheels_node.builder.caches import seal
from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.environment import EnvironmentCache
from piwheels_node.builder.caches.seal import is_intact
from piwheels_node.builder.caches.shelves import Bound
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.interpreter import probe
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.settings import CacheSettings


@pytest.fixture
def environments(tmp_path, pypi):
    """A cache of environments that asks the home-made PyPI."""
    stop = threading.Event()
    downloads = Downloads(tmp_path / "downloads", stop)
    cache = EnvironmentCache(
        tmp_path / "environments",
        probe(),
        downloads,
        CacheSettings(),
        index_url=pypi.index_url,
        stop=stop,
    )
    yield cache
    downloads.close()


def shelves(environments):
    """The bound of all that a cache of environments keeps."""
    return Bound(environments.ready, environments.resolutions.shelf, environments.downloads.shelf)


def test_an_environment_holds_the_requirements_and_what_they_require(environments, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "backend", "2.0", install_requires=["helper"]), project="backend")
    pypi.add(make_wheel(tmp_path, "helper", "1.0"), project="helper")

    made = environments.get(["backend>=1"])

    assert sorted(map(str, made.pins)) == ["backend==2.0", "helper==1.0"]
    packages = next(made.path.glob("lib/python3.*/site-packages"))
    assert (packages / "backend.py").exists()
    assert list(packages.glob("__pycache__/helper.*.pyc"))
    assert (made.path / "bin" / "python").resolve() == environments.interpreter.path.resolve()


def test_the_same_wheels_are_the_same_environment_whatever_was_asked_for(environments, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "backend", "2.0"), project="backend")

    one = environments.get(["backend"])
    other = environments.get(["Backend >= 2.0", 'never; python_version < "3"'])

    assert one.path == other.path


def test_a_second_build_asks_nobody(environments, pypi, tmp_path):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")
    environments.get(["tinybuild"])
    asked = len(pypi.requests)

    environments.get(["tinybuild"])

    assert len(pypi.requests) == asked


@pytest.mark.parametrize(
    "requirements",
    [["backend>=1"], ["Backend>1,!=1.5"], ["backend~=2.0"], ["backend==2.*", "helper<2"]],
    ids=str,
)
def test_an_answer_without_versions_serves_all_that_it_satisfies(environments, pypi, tmp_path, requirements):
    for name, version in (("backend", "1.5"), ("backend", "2.0"), ("helper", "1.0")):
        pypi.add(make_wheel(tmp_path, name, version), project=name)
    names = sorted({re.match(r"\w+", one)[0].lower() for one in requirements})
    with environments.get(names) as made:
        known = made.key
    asked = len(pypi.requests)

    with environments.get(requirements) as made:
        assert made.key == known
    assert len(pypi.requests) == asked


def test_versions_above_a_bound_share_one_question(environments, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "backend", "2.0"), project="backend")
    environments.get(["backend>=1"]).close()
    asked = len(pypi.requests)

    environments.get(["backend>=1.5"]).close()

    assert len(pypi.requests) == asked


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [("backend<2", "backend==1.5"), ("backend>=2.1", "backend==2.1"), ("backend>=1.0rc1", "backend==3.0rc1")],
)
def test_what_the_answer_without_versions_does_not_satisfy_is_asked_as_it_is(
    environments, pypi, tmp_path, requirement, expected
):
    for version in ("1.5", "2.0"):
        pypi.add(make_wheel(tmp_path, "backend", version), project="backend")
    environments.get(["backend"]).close()
    for version in ("2.1", "3.0rc1"):
        pypi.add(make_wheel(tmp_path, "backend", version), project="backend")

    with environments.get([requirement]) as made:
        assert list(map(str, made.pins)) == [expected]


def test_builds_that_want_the_same_environment_at_once_make_it_once(environments, pypi, tmp_path):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(environments.get, [["tinybuild"]] * 4))

    assert len({one.path for one in made}) == 1
    fetched = [path for path in pypi.requests if path.endswith(".whl")]
    assert len(fetched) == 2, "once by pip, to read its metadata, and once to be unpacked"


OTHER_BUILDER = """
import sys, threading
from pathlib import Path
from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.environment import EnvironmentCache
from piwheels_node.builder.interpreter import probe
from piwheels_node.core.settings import CacheSettings

root, index_url = Path(sys.argv[1]), sys.argv[2]
stop = threading.Event()
downloads = Downloads(root / "downloads", stop)
cache = EnvironmentCache(
    root / "environments", probe(), downloads, CacheSettings(), index_url=index_url, stop=stop
)
print("ready", flush=True)
sys.stdin.readline()
print(cache.get(["tinybuild"]).path, flush=True)
"""


def other_builder(tmp_path, pypi):
    """Another process on the same caches; it takes an environment when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_BUILDER, tmp_path, pypi.index_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go on\n")
    process.stdin.flush()
    return process


def test_two_builders_that_want_the_same_environment_at_once_make_it_once(environments, pypi, tmp_path):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")

    processes = [other_builder(tmp_path, pypi) for _ in range(2)]
    said = {process.communicate()[0] for process in processes}

    assert said == {f"{environments.get(['tinybuild']).path}\n"}
    fetched = [path for path in pypi.requests if path.endswith(".whl")]
    assert len(fetched) == 2, "once by pip, to read its metadata, and once to be unpacked"


def test_a_builder_that_is_killed_at_any_moment_leaves_nothing_that_is_believed(environments, pypi, tmp_path):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")
    began = time.monotonic()
    process = other_builder(tmp_path, pypi)
    process.communicate()
    takes_s = time.monotonic() - began
    for shelf in (environments.ready, environments.resolutions.shelf, environments.downloads.shelf):
        for entry in shelf.root.iterdir():
            remove_tree(entry)

    for part in range(4):
        process = other_builder(tmp_path, pypi)
        time.sleep(takes_s * part / 4)
        process.kill()  # its pip finds nobody to tell, and ends by itself
        process.communicate()

    made = environments.get(["tinybuild"])
    assert is_intact(made.path, made.path.parent / "seal.json")
    made.close()
    shelves(environments).shrink(0)
    assert not list(environments.root.glob("*/*"))


def test_an_environment_that_a_power_cut_emptied_is_made_anew(environments, pypi, tmp_path, monkeypatch):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")
    with environments.get(["tinybuild"]) as made:
        module = next(made.path.glob("lib/python3.*/site-packages/tinybuild.py"))
        content, about = module.read_bytes(), module.stat()
    module.write_bytes(bytes(len(content)))
    os.utime(module, ns=(about.st_atime_ns, about.st_mtime_ns))
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(seal, "_BOOT", tmp_path / "boot_id")

    environments.get(["tinybuild"]).close()

    assert module.read_bytes() == content


def test_a_requirement_that_is_an_sdist_only_is_missing_and_never_run(environments, pypi, tmp_path):
    trap = tmp_path / "ran"
    pypi.add(make_sdist(tmp_path, "trap", "1.0", setup=f"open({str(trap)!r}, 'w')"), project="trap")

    with pytest.raises(BuildError) as caught:
        environments.get(["trap"])

    assert (caught.value.reason, caught.value.captured) == (FailureReason.REQUIREMENT_MISSING, "trap")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("requirement", "captured"),
    [
        ("nowhere", "nowhere"),
        ("backend>3", "backend>3"),
        ("backend[x]>3; python_version>'3'", "backend>3"),
    ],
    ids=str,
)
def test_a_requirement_that_no_wheel_satisfies_is_missing(
    environments, pypi, tmp_path, requirement, captured
):
    pypi.add(make_wheel(tmp_path, "backend", "2.0"), project="backend")

    with pytest.raises(BuildError) as caught:
        environments.get([requirement])

    assert (caught.value.reason, caught.value.captured) == (FailureReason.REQUIREMENT_MISSING, captured)


def test_a_wheel_with_the_wrong_hash_is_refused_and_not_kept(environments, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "backend", "2.0"), project="backend", sha256="0" * 64)

    with pytest.raises(BuildError) as caught:
        environments.get(["backend"])

    assert caught.value.reason is FailureReason.HASH_MISMATCH
    assert not any(environments.ready.root.iterdir())
    assert not any(environments.downloads.shelf.root.iterdir())


def test_an_index_that_fails_is_not_the_package_s_fault(environments, pypi):
    pypi.fail("/simple/", 503)

    with pytest.raises(BuildError) as caught:
        environments.get(["backend"])

    assert caught.value.reason in {FailureReason.FETCH_FAILED, FailureReason.REQUIREMENT_MISSING}


def test_a_wheel_that_would_be_unpacked_elsewhere_is_refused(environments, pypi, tmp_path):
    wheel = make_wheel(tmp_path, "backend", "2.0", members=[("../../escaped", "x")])
    pypi.add(wheel, project="backend")

    with pytest.raises(BuildError) as caught:
        environments.get(["backend"])

    assert caught.value.reason is FailureReason.REQUIREMENT_FAILED
    assert not list(tmp_path.rglob("escaped"))


def test_scripts_of_an_environment_name_the_python_inside_the_sandbox(environments, pypi, tmp_path):
    wheel = make_wheel(
        tmp_path,
        "tool",
        "1.0",
        {"tool.py": "", "tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool = tool:f\n"},
    )
    pypi.add(wheel, project="tool")

    made = environments.get(["tool"])

    assert (made.path / "bin" / "tool").read_text().startswith("#!/env/bin/python\n")
    assert os.access(made.path / "bin" / "tool", os.X_OK)


def test_what_was_used_least_recently_is_evicted_first_and_nothing_that_is_in_use(
    environments, pypi, tmp_path
):
    for name in ("old", "used", "new"):
        pypi.add(make_wheel(tmp_path, name, "1.0", {f"{name}.py": "x = 1\n" * 9999}), project=name)
    old, used, new = (environments.get([name]) for name in ("old", "used", "new"))
    old.close()
    new.close()
    for age, made in ((4e5, used), (3e5, old), (2e5, new)):
        os.utime(made.path.parent, (time.time() - age,) * 2)
    for entry in environments.downloads.shelf.root.iterdir():
        os.utime(entry, (time.time() - 9e5,) * 2)
    kept = sum(entry.size_bytes for entry in environments.ready.entries())

    assert shelves(environments).shrink(kept - 1) > 0

    assert not old.path.exists()
    assert new.path.exists()
    assert used.path.exists(), "a build is using it"
    assert not any(environments.downloads.shelf.root.iterdir())
    assert environments.get(["old"]).path == old.path


def test_an_environment_works_where_it_is_mounted(environments, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "backend", "2.0"), project="backend")
    made = environments.get(["backend"])

    said = subprocess.run(
        [made.path / "bin" / "python", "-c", "import backend; print(backend.VERSION)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout == "2.0\n"
