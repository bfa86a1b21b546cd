# SPDX-License-Identifier: BSD-3-Clause
"""Debian packages that a build lacks, laid over the host's /usr for that build: real apt and bubblewrap."""

import os
import subprocess
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sdists import c_extension, make_sdist

from piwheels_node.builder.halt import Halt
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

WANTS_TINY = c_extension("_needy", prelude="#include <tiny.h>\n#if TINY != 42\n#error another tiny\n#endif")
ASKS_TOOLS = """
import subprocess
said = subprocess.run(['tiny-config'], check=True, capture_output=True, text=True).stdout
assert said == 'tiny-says-hello\\n', said
"""
ASKS_PKG_CONFIG = """
import subprocess
assert 'TINY_BY_PC' in subprocess.run(
    ['pkg-config', '--cflags', 'tiny'], check=True, capture_output=True, text=True
).stdout
"""


def dpkg_status():
    return Path("/var/lib/dpkg/status").stat().st_mtime_ns, sorted(os.listdir("/var/lib/dpkg/info"))


def test_a_build_finds_headers_and_programs_of_packages_that_the_host_does_not_have(tmp_path, layered):
    before, mounts = dpkg_status(), Path("/proc/mounts").read_text()
    sdist = make_sdist(tmp_path, "needy", "1.0", c_source=WANTS_TINY, setup=ASKS_TOOLS)

    without = layered.build(sdist)
    assert (without.reason, without.wheel) == (
        FailureReason.UNKNOWN,
        None,
    ) or without.reason.value.startswith("missing-")

    done = layered.build(sdist, packages=["libtiny-dev"])
    assert done.wheel, done.log
    assert done.record.layers == ["libtiny-dev=1.0", "libtiny1=1.0"]

    assert dpkg_status() == before
    assert not Path("/usr/include/tiny.h").exists()
    assert not Path("/piwheels-node-postinst-ran").exists(), "maintainer scripts are not run"
    assert Path("/proc/mounts").read_text() == mounts
    assert not list((layered.workshop.root / "views").iterdir())

    again = layered.build(sdist)
    assert again.wheel is None, "a layer is for one build"


@pytest.mark.skipif(not Path("/usr/bin/pkg-config").exists(), reason="there is no pkg-config")
def test_a_layers_pkg_config_files_are_found(tmp_path, layered):
    sdist = make_sdist(tmp_path, "piccy", "1.0", setup=ASKS_PKG_CONFIG)
    assert layered.build(sdist, packages=["libtiny-dev"]).wheel
    assert layered.build(sdist).wheel is None


def test_the_environment_of_a_build_names_its_root_and_its_layers(layered):
    plain = layered.workshop.describe([])
    with_layers = layered.workshop.describe([], ["a=1"])
    assert plain.root == f"host:{layered.workshop.tree.identity()[:16]}"
    assert with_layers.layers == ["a=1"]
    assert with_layers.environment_id.partition("+")[0] == plain.environment_id
    assert with_layers.environment_id != layered.workshop.describe([], ["a=2"]).environment_id


def test_a_package_that_is_none_fails_the_build_with_its_name(tmp_path, layered):
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["nobody-has-this"])
    assert (done.reason, done.record.captured) == (FailureReason.LAYER_FAILED, "nobody-has-this")


@pytest.mark.parametrize(
    "name", ["--option", "lib.*", "libtiny-dev-", "libtiny-dev=2", "../x", "A", "~nlibtiny", ""]
)
def test_apt_is_told_nothing_but_names(layered, name):
    with pytest.raises(BuildError) as refused, layered.workshop.lay([name], Halt()):
        pass
    assert refused.value.reason is FailureReason.LAYER_FAILED


@pytest.mark.parametrize("name", ["lib.+", "libtiny+", "lib."])
def test_a_name_is_no_pattern(layered, name):
    with pytest.raises(BuildError, match="there is no Debian package"), layered.workshop.lay([name], Halt()):
        pass


def test_a_package_that_would_change_the_root_is_not_added(tmp_path, layered, apt_archive):
    apt_archive.add("against-dpkg", {"usr/include/against.h": ""}, conflicts="dpkg")
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["against-dpkg"])
    assert done.reason is FailureReason.LAYER_FAILED
    assert done.record.captured == "against-dpkg"


def test_what_the_root_has_needs_no_layer(layered):
    with layered.workshop.lay(["dpkg"], Halt()) as layers:
        assert not layers


def test_a_package_with_other_bytes_than_its_list_says_is_not_used(tmp_path, layered, apt_archive):
    deb = apt_archive.add("libspoilt-dev", {"usr/include/spoilt.h": "x"})
    content = bytearray(deb.read_bytes())
    content[-600] ^= 1
    deb.write_bytes(content)
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["libspoilt-dev"])
    assert done.reason is FailureReason.HASH_MISMATCH


def test_a_package_that_cannot_be_fetched_is_no_fault_of_the_build(tmp_path, layered, apt_archive):
    apt_archive.add("libgone-dev", {"usr/include/gone.h": "x"}).unlink()
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["libgone-dev"])
    assert done.reason is FailureReason.FETCH_FAILED


def test_a_package_that_reaches_outside_its_directory_is_not_used(tmp_path, layered, apt_archive):
    way, out = tarfile.TarInfo("./usr/way"), tarfile.TarInfo("./usr/way/piwheels-node-escaped")
    way.type, way.linkname = tarfile.SYMTYPE, "/tmp"
    apt_archive.add("libhostile-dev", members=[(way, b""), (out, b"x")])
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["libhostile-dev"])
    assert done.reason is FailureReason.LAYER_FAILED
    assert not Path("/tmp/piwheels-node-escaped").exists()
    assert not list((layered.workshop.root / "layers").iterdir())


def test_packages_that_are_too_much_are_not_fetched(layered):
    layered.workshop.layers.max_bytes = 1000
    with (
        pytest.raises(BuildError, match="would be 2 packages"),
        layered.workshop.lay(["libtiny-dev"], Halt()),
    ):
        pass


def test_a_list_that_has_grown_old_is_fetched_again_when_a_package_is_gone(layered, apt_archive):
    with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
        assert "libtiny-dev=1.0" in layers.names
    (apt_archive.directory / f"libtiny-dev_1.0_{apt_archive.arch}.deb").unlink()
    apt_archive.add("libtiny-dev", {"usr/include/tiny.h": ""}, "2.0", depends="libtiny1")
    for entry in layered.workshop.layers.shelf.entries():
        layered.workshop.layers.shelf.evict(entry.path)
    with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
        assert "libtiny-dev=2.0" in layers.names


def test_two_builds_at_once_may_want_the_same_layer(layered):
    together = threading.Barrier(2)

    def lay(_):
        together.wait(10)
        with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
            together.wait(20)
            assert layers.shown
            return layers.names, [layer.path for layer in layers.layers], layers.shown.place

    with ThreadPoolExecutor(2) as pool:
        (names, paths, place), (other_names, other_paths, other_place) = pool.map(lay, range(2))
    assert (names, paths) == (other_names, other_paths)
    assert place != other_place


def test_a_layer_is_kept_while_a_build_uses_it_and_goes_when_room_is_wanted(layered):
    shelf = layered.workshop.layers.shelf
    with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
        assert not any(shelf.evict(entry.path) for entry in shelf.entries())
        assert all(layer.usr.is_dir() for layer in layers.layers)
    assert all(shelf.evict(entry.path) for entry in shelf.entries())


def test_a_layer_that_a_power_cut_emptied_is_made_anew(layered):
    with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
        header = (
            next(layer for layer in layers.layers if layer.package.name == "libtiny-dev").usr
            / "include/tiny.h"
        )
    header.write_text("")
    with layered.workshop.lay(["libtiny-dev"], Halt()):
        assert header.read_text()


def test_the_owner_of_a_library_in_a_layer_is_its_package(layered):
    with layered.workshop.lay(["libtiny-dev"], Halt()) as layers:
        assert layers.owners(["libtiny.so.1", "libc.so.6", "../usr"]) == {"libtiny.so.1": "libtiny1"}


def test_what_a_package_makes_by_alternatives_is_there_where_the_root_has_nothing(
    tmp_path, layered, apt_archive
):
    apt_archive.add(
        "blasty-dev",
        {"usr/include/blasty-pthread/blasty.h": "#define BLASTY 7\n", "usr/bin/cc.blasty": "#!/bin/false\n"},
        postinst="update-alternatives --install /usr/include/blasty.h blasty.h \\\n"
        "  /usr/include/blasty-pthread/blasty.h 100 \\\n"
        "  --slave /usr/share/man/man3/blasty.3.gz blasty.3.gz /usr/share/man/man3/blasty-p.3.gz\n"
        "update-alternatives --install /usr/bin/cc cc /usr/bin/cc.blasty 1000\n",
    )
    source = c_extension("_needy", prelude="#include <blasty.h>\n#if BLASTY != 7\n#error another\n#endif")

    done = layered.build(make_sdist(tmp_path, "needy", "1.0", c_source=source), packages=["blasty-dev"])

    assert done.wheel, done.log
    assert not Path("/piwheels-node-postinst-ran").exists()


def test_the_owner_of_a_library_that_is_an_alternative_is_its_package(layered, apt_archive):
    place = f"usr/lib/{os.uname().machine}-linux-gnu"
    apt_archive.add(
        "libblasty0",
        {f"{place}/blasty/libblasty.so.0": "a library"},
        postinst=f"update-alternatives --install /{place}/libblasty.so.0 blasty"
        f" /{place}/blasty/libblasty.so.0 10\n",
    )
    with layered.workshop.lay(["libblasty0"], Halt()) as layers:
        assert layers.owners(["libblasty.so.0"]) == {"libblasty.so.0": "libblasty0"}


def test_a_builder_that_must_not_add_packages_does_not(tmp_path, layered):
    layered.workshop.why_no_layers = "builder.layers is off"
    done = layered.build(make_sdist(tmp_path, "tiny", "1.0"), packages=["libtiny-dev"])
    assert done.reason is FailureReason.LAYER_FAILED


def test_the_machines_own_apt_is_not_touched(layered):
    lists = Path("/var/lib/apt/lists")
    before = lists.stat().st_mtime_ns
    with layered.workshop.lay(["libtiny-dev"], Halt()):
        pass
    assert lists.stat().st_mtime_ns == before
    assert subprocess.run(["dpkg", "-s", "libtiny-dev"], check=False, capture_output=True).returncode != 0
