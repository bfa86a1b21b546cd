# SPDX-License-Identifier: BSD-3-Clause
"""Compiler results: who is lent which, and what of the things that package code left is kept."""

from __future__ import annotations

import dataclasses
import os
import threading

import pytest

from piwheels_node.builder.caches import compiled as module
from piwheels_node.builder.caches.compiled import CompilerCache
from piwheels_node.builder.caches.shelves import Bound
from piwheels_node.core.errors import SettingsError
from piwheels_node.core.messages import Lease, SdistFile
from piwheels_node.core.settings import CacheSettings
from piwheels_node.core.targets import Target

TRIXIE = Target.parse("cp313-linux_armv7l-debian13")
BOOKWORM = Target.parse("cp311-linux_armv7l-debian12")
NAME = "8a6075o1id0e1ljb9iedivciligiimfdg"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Makes a cache where ccache is installed, whatever is installed here."""
    (tmp_path / "ccache").mkdir()
    monkeypatch.setattr(module, "_COMPILERS", tmp_path / "ccache")
    monkeypatch.setattr(module.shutil, "which", lambda _: "/usr/bin/ccache")

    def make(target=TRIXIE, **settings):
        settings = dataclasses.replace(CacheSettings(), **settings)
        return CompilerCache(tmp_path / "compiled", target, settings, threading.Event())

    return make


def lease(project="tiny", version="1.0", sha256="0" * 64):
    sdist = SdistFile(filename=f"{project}-{version}.tar.gz", url="http://x/", sha256=sha256)
    return Lease(
        job_id=1,
        token="0" * 32,
        project=project,
        version=version,
        target=str(TRIXIE),
        sdist=sdist,
        expires_in_s=60,
    )


def left_by_a_build(build, name=NAME, content=b"result"):
    """A file where ccache writes what it has compiled."""
    place = build / "compiled" / name[:2]
    place.mkdir(parents=True, exist_ok=True)
    (place / name[2:]).write_bytes(content)
    return place / name[2:]


def kept(results):
    return sorted(path.name for path in results.kept.rglob("*") if path.is_file())


def test_what_a_build_left_is_lent_to_the_next_one_of_the_same_sdist(cache, tmp_path):
    left_by_a_build(tmp_path / "room")
    with cache().lend(lease()) as results:
        assert results.take_over(tmp_path / "room") == 6

    with cache().lend(lease(version="1.0")) as results:
        assert kept(results) == [NAME[2:]]


@pytest.mark.parametrize(
    ("other", "target"),
    [
        (lease(version="1.1", sha256="1" * 64), TRIXIE),
        (lease(project="other", sha256="1" * 64), TRIXIE),
        (lease(), BOOKWORM),
    ],
    ids=["version", "project", "target"],
)
def test_and_to_nobody_else(cache, tmp_path, other, target):
    left_by_a_build(tmp_path / "room")
    with cache().lend(lease()) as results:
        results.take_over(tmp_path / "room")

    with cache(target).lend(other) as results:
        assert kept(results) == []


def test_all_versions_of_a_project_share_where_its_owner_wants_that(cache, tmp_path):
    left_by_a_build(tmp_path / "room")
    with cache(compiled="project").lend(lease()) as results:
        results.take_over(tmp_path / "room")

    with cache(compiled="project").lend(lease(version="1.1", sha256="1" * 64)) as results:
        assert kept(results) == [NAME[2:]]
    with cache(compiled="project").lend(lease(project="other", sha256="1" * 64)) as results:
        assert kept(results) == []


def test_nothing_is_lent_where_that_is_wanted_or_there_is_no_ccache(cache, monkeypatch):
    with cache(compiled="nothing").lend(lease()) as results:
        assert results is None
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with cache().lend(lease()) as results:
        assert results is None


def test_a_setting_that_nobody_knows_is_refused(cache):
    with pytest.raises(SettingsError, match=r"cache\.compiled"):
        cache(compiled="everybody")


def test_only_what_looks_like_a_result_is_kept(cache, tmp_path):
    room = tmp_path / "room"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    good = left_by_a_build(room)
    os.symlink(secret, good.with_name("0" * 30))
    os.link(secret, good.with_name("1" * 30))
    os.mkfifo(good.with_name("2" * 30))
    good.with_name("3" * 30).mkdir()
    good.with_name("short").write_text("x")
    good.parent.with_name("4" * 30).write_text("x")
    (room / "compiled" / "zz").mkdir()
    (room / "compiled" / "zz" / ("5" * 30)).write_text("x")
    (room / "compiled" / "ab").symlink_to(tmp_path)
    (tmp_path / ("6" * 30)).write_text("x")

    with cache().lend(lease()) as results:
        results.take_over(room)
        assert kept(results) == [NAME[2:]]
        assert not list(results.kept.parent.glob(".part-*"))


def test_a_directory_that_is_a_link_is_not_followed(cache, tmp_path):
    left_by_a_build(tmp_path / "elsewhere")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "compiled").symlink_to(tmp_path / "elsewhere" / "compiled")

    with cache().lend(lease()) as results:
        assert results.take_over(tmp_path / "room") == 0


def test_a_result_that_is_kept_is_not_replaced(cache, tmp_path):
    left_by_a_build(tmp_path / "room", content=b"first")
    left_by_a_build(tmp_path / "other", content=b"second")
    with cache().lend(lease()) as results:
        results.take_over(tmp_path / "room")
        results.take_over(tmp_path / "other")

        assert next(results.kept.rglob("??/*")).read_bytes() == b"first"


def test_one_sdist_has_a_sixteenth_of_the_cache_at_most(cache, tmp_path):
    for number in range(10):
        left_by_a_build(tmp_path / "room", name=f"{number:02x}" + "a" * 30, content=bytes(1000))

    for _ in range(2):
        with cache(max_bytes=16 * 3500).lend(lease()) as results:
            results.take_over(tmp_path / "room")
    with cache().lend(lease()) as results:
        assert len(kept(results)) == 3


def test_results_are_counted_and_evicted_like_all_that_is_kept(cache, tmp_path):
    left_by_a_build(tmp_path / "room", content=bytes(100_000))
    made = cache()
    with made.lend(lease()) as results:
        results.take_over(tmp_path / "room")
        assert Bound(made.shelf).shrink(0) == 0, "it is in use"

    assert Bound(made.shelf).shrink(0) > 100_000
    assert not any(made.shelf.root.iterdir())


def test_two_builds_of_one_sdist_take_over_at_once(cache, tmp_path):
    left_by_a_build(tmp_path / "one", name="aa" + "b" * 30)
    left_by_a_build(tmp_path / "two", name="aa" + "c" * 30)
    made = cache()

    with made.lend(lease()) as first, made.lend(lease()) as second:
        assert first.take_over(tmp_path / "one") == second.take_over(tmp_path / "two") == 6
        assert len(kept(first)) == 2


def test_the_environment_s_own_programs_stay_ahead_of_ccache(cache, tmp_path):
    with cache().lend(lease()) as results:
        variables = results.variables("/env/bin:/usr/bin:/bin")

    assert variables["PATH"] == f"/env/bin:{tmp_path / 'ccache'}:/usr/bin:/bin"
    assert "read-only=true" in variables["CCACHE_REMOTE_STORAGE"]
