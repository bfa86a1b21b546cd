# SPDX-License-Identifier: BSD-3-Clause
"""From the backend's wheel to the public one: its name, its tags, and the libraries that it needs."""

from __future__ import annotations

import shutil

import pytest
from sdists import c_extension, make_sdist

from piwheels_node.builder.interpreter import probe
from piwheels_node.core.failure import FailureReason as Reason
from piwheels_node.core.jobs import JobState

TARGET = probe().target


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian")
def test_a_library_that_no_debian_package_has_is_named_without_running_anything(farm, tmp_path):
    setup = (
        "import pathlib, subprocess\n"
        "pathlib.Path('h.c').write_text('int home(void) { return 1; }')\n"
        "made = ['cc', '-shared', '-fPIC', '-Wl,-soname,libhome.so.1', 'h.c', '-o', '/tmp/libhome.so']\n"
        "subprocess.run(made, check=True)\n"
        "real = subprocess.run\n"
        "def run(command, **words):\n"
        "    return real([*command, '-Wl,--no-as-needed', '/tmp/libhome.so'], **words)\n"
        "subprocess.run = run\n"
    )
    sdist = make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny"), setup=setup)

    job = farm.build(sdist)

    assert job.state is JobState.FAILED
    assert (job.build.reason, job.build.captured) == (Reason.LOAD_FAILED, "libhome.so.1")
    assert "no Debian package here has libhome.so.1" in farm.log(job)


def wheel_of(farm, sdist):
    job = farm.build(sdist)
    assert job.state is JobState.BUILT, farm.log(job)
    (wheel,) = farm.client.project("tiny").wheels
    return wheel.filename


@pytest.mark.parametrize("tag", ["cp38-abi3", "py3-none"])
def test_a_wheel_that_promises_more_pythons_than_its_extension_is_for_is_for_one(farm, tmp_path, tag):
    setup = f"config['tag'] = '{tag}-{TARGET.platform}'"

    filename = wheel_of(farm, make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny"), setup=setup))

    assert filename == f"tiny-1.0-{TARGET.abi}-{TARGET.abi}-{TARGET.platform}.whl"


def test_a_wheel_for_the_stable_abi_stays_one(farm, tmp_path):
    setup = (
        f"config['tag'] = 'cp38-abi3-{TARGET.platform}'\n"
        "import sysconfig\n"
        "sysconfig.get_config_vars()['EXT_SUFFIX'] = '.abi3.so'\n"
    )
    source = c_extension("_tiny", prelude="#define Py_LIMITED_API 0x03080000")

    filename = wheel_of(farm, make_sdist(tmp_path, "tiny", "1.0", c_source=source, setup=setup))

    assert filename == f"tiny-1.0-cp38-abi3-{TARGET.platform}.whl"
