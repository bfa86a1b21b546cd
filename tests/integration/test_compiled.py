# SPDX-License-Identifier: BSD-3-Clause
"""Compiler results in real builds with real ccache: the same sdist profits, and nobody believes another's."""

from __future__ import annotations

import shutil

import pytest
from fix_builds import Builds
from sdists import c_extension, make_sdist

pytestmark = pytest.mark.skipif(not shutil.which("ccache"), reason="sudo apt install ccache")

TELL = """
import os, subprocess
kept = f"kept: {sum(len(names) for _, _, names in os.walk('/compiled'))}"
print(kept)
os.environ["CCACHE_LOGFILE"] = "/tmp/ccache.log"
real = subprocess.run
def run(command, **words):
    # As distutils and others do: only compiling is cached, linking is not.
    source = next(word for word in command if word.endswith(".c"))
    real(["cc", "-c", "-fPIC", *command[3:4], source, "-o", "/tmp/x.o"], **words)
    print(*[line for line in open("/tmp/ccache.log") if "Result:" in line])
    return real([word if word != source else "/tmp/x.o" for word in command], **words)
subprocess.run = run
"""

POISON = """
import os, pathlib
try:
    open("/compiled/lie", "w")
except OSError as error:
    print("shelf:", error)
place = pathlib.Path("/build/compiled/aa")
place.mkdir(parents=True)
(place / ("b" * 30)).write_text("a lie")
"""


def tiny(directory, version="1.0", setup=TELL):
    return make_sdist(directory, "tiny", version, c_source=c_extension("_tiny"), setup=setup)


def test_a_build_that_begins_again_compiles_nothing_twice(builds, tmp_path):
    sdist = tiny(tmp_path)

    first, second = builds.build(sdist), builds.build(sdist)

    assert first.wheel == second.wheel is not None, first.log
    assert "kept: 0" in first.log
    assert "cache_miss" in first.log
    assert "kept: 2" in second.log, "the object and the manifest"
    assert "Result: direct_cache_hit" in second.log


def test_what_a_failed_build_had_compiled_is_not_lost(builds, tmp_path):
    sdist = tiny(tmp_path, setup=TELL + "config['filename'] = 'nonsense.whl'")

    assert builds.build(sdist).wheel is None
    assert "Result: direct_cache_hit" in builds.build(sdist).log


def test_what_was_compiled_in_memory_until_that_was_full_is_not_lost(open_tmp_path, pypi, tmp_path):
    fill = (
        "def fill(command, **words):\n"
        "    run(command, **words)\n"
        "    if 'kept: 0' in kept:\n"
        "        open('/build/filler', 'wb').write(bytes(40 << 20)); __import__('time').sleep(5)\n"
        "subprocess.run = fill\n"
    )
    sdist = tiny(tmp_path, setup=TELL + fill)

    builds = Builds(open_tmp_path / "builder", pypi, memory_bytes=20 << 20)
    done = builds.build(sdist)
    builds.close()

    assert done.wheel, done.log
    assert "once more, on the disk" in done.log
    assert "Result: direct_cache_hit" in done.log


def test_lies_of_a_release_reach_no_other(builds, tmp_path):
    liar = builds.build(tiny(tmp_path, setup=POISON))
    assert "shelf: [Errno 30] Read-only file system" in liar.log

    assert "kept: 0" in builds.build(tiny(tmp_path, "1.1")).log
    assert list(builds.workshop.compilers.shelf.root.rglob("b" * 30)), "kept for its own sdist alone"


def test_without_ccache_compilers_are_what_they_are(builds, tmp_path, monkeypatch):
    monkeypatch.setattr(builds.workshop.compilers, "is_on", False)
    setup = "import os, shutil; print(shutil.which('cc'), os.path.exists('/compiled'))"

    done = builds.build(tiny(tmp_path, setup=setup))

    assert done.wheel
    assert "/usr/bin/cc False" in done.log
