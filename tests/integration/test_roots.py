# SPDX-License-Identifier: BSD-3-Clause
"""Build roots: which Debians a builder offers, and builds in one that is not the host's.

The roots here are links to the host's own files, which takes no time; `make test-roots` makes a real one.
"""

import dataclasses
import io
import json
import os
import tarfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sdists import c_extension, make_backend_wheel, make_sdist

from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.roots.making import MadeRoot, MadeRoots, sources
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.errors import NodeError, SettingsError, UsageError
from piwheels_node.core.settings import BuilderSettings, Settings

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOST_OF = ("etc/alternatives", "etc/ld.so.cache", "etc/os-release", "etc/apt", "usr", "var/lib/dpkg")


def link_root(roots, name="twin"):
    """A root that has everything of the host, by links: nobody can tell it from one that was made."""
    identity = "0123456789abcdef" * 4
    place = roots.directory / name / identity[:16]
    for path in HOST_OF:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(Path("/", path).resolve())
    for top in ("bin", "lib", "lib64", "sbin"):
        if Path("/", top).is_symlink():
            (place / top).symlink_to(os.readlink(Path("/", top)))
    about = MadeRoot(name, "bookworm", "amd64", "", (), identity, NOW.isoformat())
    (roots.directory / name / "root.json").write_text(json.dumps(dataclasses.asdict(about)))
    return roots.tree(about)


@pytest.fixture
def roots(open_tmp_path):
    """The build roots of a builder; there are none yet."""
    return MadeRoots(open_tmp_path / "builder" / "roots")


@pytest.fixture
def workshop(open_tmp_path, pypi):
    """Makes the builder's workshop, with some settings."""
    made = []

    def make(**builder):
        settings = dataclasses.replace(Settings(), builder=dataclasses.replace(BuilderSettings(), **builder))
        settings = dataclasses.replace(
            settings, pypi=dataclasses.replace(settings.pypi, index_url=pypi.index_url)
        )
        made.append(Workshop(open_tmp_path / "builder", probe(), settings, stop=threading.Event()))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- what is offered -----------------------------------------------------------------------------------


def test_a_root_has_its_own_interpreter_and_target(roots):
    tree = link_root(roots)
    in_root = probe(tree=tree)
    assert in_root.path.is_relative_to("/usr")
    assert str(in_root.target) == str(probe("/usr/bin/python3").target)


def test_the_host_goes_before_a_root_of_the_same_target_unless_only_the_root_is_wanted(roots, workshop):
    link_root(roots)
    by_default = workshop().by_target()
    only_twin = workshop(roots="twin").by_target()
    target = str(probe("/usr/bin/python3").target)
    assert by_default[str(probe().target)].tree.is_host
    assert [one.tree.name for one in only_twin.values()] == ["twin"]
    assert list(only_twin) == [target]


def test_a_root_that_is_not_there_is_an_error_that_names_those_that_are(roots, workshop):
    link_root(roots)
    with pytest.raises(SettingsError) as refused:
        workshop(roots="host, trixie")
    assert "twin" in refused.value.hint


def test_a_root_whose_python_does_not_run_is_not_offered(roots, workshop):
    tree = link_root(roots)
    (tree.path / "usr").unlink()
    (tree.path / "usr").mkdir()
    assert [one.tree.name for one in workshop().by_target().values()] == ["host"]


def test_the_environment_is_named_after_the_root(roots, workshop):
    link_root(roots)
    (twin,) = workshop(roots="twin").by_target().values()
    assert twin.describe([]).root.startswith("twin:")


# --- building in one -----------------------------------------------------------------------------------


def test_a_wheel_is_built_in_a_root_with_requirements_and_layers(tmp_path, pypi, roots, layered):
    link_root(MadeRoots(layered.workshop.root / "roots"))
    twin = Workshop(
        layered.workshop.root,
        probe(),
        dataclasses.replace(
            layered.settings, builder=dataclasses.replace(layered.settings.builder, roots="twin")
        ),
        stop=threading.Event(),
    )
    (layered.workshop,) = twin.by_target().values()
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")
    source = c_extension("_needy", prelude="#include <tiny.h>")
    sdist = make_sdist(tmp_path, "needy", "1.0", c_source=source, backend="tinybuild", requires=["tinybuild"])

    assert layered.build(sdist).reason is not None
    done = layered.build(sdist, packages=["libtiny-dev"])

    assert done.wheel, done.log
    assert done.record.requirements == ["tinybuild==1.0"]
    assert done.record.layers == ["libtiny-dev=1.0", "libtiny1=1.0"]
    twin.close()


# --- making, updating, removing ------------------------------------------------------------------------


def archive(**packages):
    """What mmdebstrap would give: a root in which these packages are installed."""
    status = "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: all\n\n"
        for name, version in packages.items()
    )
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in (("./usr/bin/true", b"#"), ("./var/lib/dpkg/status", status.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        device = tarfile.TarInfo("./dev/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    return whole.getvalue()


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """A program in place of mmdebstrap, which gives an archive that the test writes, and keeps its words."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "mmdebstrap"
    program.write_text(
        f'#!/bin/sh\necho "I: making" >&2\necho "$@" > {tmp_path}/words\ncat {tmp_path}/root.tar\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path


def make(roots, name="sid", **more):
    said = []
    made = roots.create(name, "sid", mirror="file:/nowhere", now=NOW, say=said.append, **more)
    assert said == ["I: making"]
    return made


def test_a_root_is_named_by_what_is_installed_in_it(roots, bootstrap):
    (bootstrap / "root.tar").write_bytes(archive(libc6="1"))
    made = make(roots, packages=["libopenblas-dev"])
    assert roots.get("sid") == made
    assert made.identity == roots.tree(made).identity()
    assert (roots.tree(made).usr / "bin" / "true").exists()
    assert not (roots.tree(made).path / "dev").exists()
    assert os.readlink(roots.tree(made).path / "bin") == "usr/bin"
    assert "libopenblas-dev" in (bootstrap / "words").read_text()


def test_an_update_that_changes_nothing_keeps_the_root(roots, bootstrap):
    (bootstrap / "root.tar").write_bytes(archive(libc6="1"))
    made = make(roots)
    again, changed = roots.update("sid", now=NOW, say=lambda _: None)
    assert (again.identity, changed) == (made.identity, False)
    assert [path.name for path in (roots.directory / "sid").iterdir() if path.is_dir()] == [made.version]


def test_an_updated_root_is_another_and_the_old_one_goes_when_nobody_uses_it(roots, bootstrap):
    (bootstrap / "root.tar").write_bytes(archive(libc6="1"))
    old = make(roots)
    user = MadeRoots(roots.directory)
    (in_use,) = user.use()
    (bootstrap / "root.tar").write_bytes(archive(libc6="2"))
    new, changed = roots.update("sid", now=NOW, say=lambda _: None)
    assert changed
    assert new.identity != old.identity
    assert in_use.usr.is_dir()
    user.close()
    roots.update("sid", now=NOW, say=lambda _: None)
    assert not in_use.usr.exists()
    assert roots.tree(roots.get("sid")).usr.is_dir()


def test_a_root_that_is_used_is_not_removed(roots, bootstrap):
    (bootstrap / "root.tar").write_bytes(archive(libc6="1"))
    make(roots)
    user = MadeRoots(roots.directory)
    user.use()
    with pytest.raises(NodeError, match="a builder uses"):
        roots.remove("sid")
    user.close()
    roots.remove("sid")
    assert roots.all() == []
    assert not (roots.directory / "sid").exists()


def test_a_root_that_cannot_be_made_leaves_nothing(roots, bootstrap):
    (bootstrap / "root.tar").write_bytes(b"E: no such suite")
    with pytest.raises(NodeError, match="could not be made"):
        make(roots)
    assert roots.all() == []
    assert list(roots.directory.iterdir()) == []


@pytest.mark.parametrize("name", ["host", "../x", "A", "", "a/b", "-x"])
def test_a_root_has_a_name_that_is_a_plain_word(roots, name):
    with pytest.raises(UsageError):
        roots.create(name, "trixie", now=NOW, say=print)


@pytest.mark.parametrize("words", [{"release": "--hook=x"}, {"arch": "-x"}, {"packages": ["a,b"]}])
def test_mmdebstrap_is_told_nothing_but_names(roots, words):
    with pytest.raises(UsageError):
        roots.create("x", **{"release": "trixie", "now": NOW, "say": print, **words})


def test_a_mirror_that_is_named_is_the_only_one():
    assert sources("trixie", "file:/srv/debian") == ["deb file:/srv/debian trixie main"]


def test_the_mirror_is_that_of_this_machines_apt():
    lines = sources("trixie")
    assert all(line.startswith("deb ") and line.endswith(" main") for line in lines)
    assert any(line.split()[2] == "trixie" for line in lines)


def test_a_machine_whose_apt_has_no_lists_yet_has_a_mirror_all_the_same(monkeypatch):
    monkeypatch.setattr("piwheels_node.builder.roots.making._listed", list)
    assert any(line.split()[2] == "trixie" for line in sources("trixie"))
