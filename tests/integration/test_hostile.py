# SPDX-License-Identifier: BSD-3-Clause
"""What package code cannot see, reach or change, each tried by a home-made sdist that a real farm builds.

Packages that exhaust, deceive or break something are in the hostile corpus: test_corpus.py.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from sdists import c_extension, make_sdist, make_wheel

from piwheels_node.builder.confine import sandbox
from piwheels_node.core.failure import FailureReason as Reason
from piwheels_node.core.jobs import JobState


def reason_of(job):
    assert job.state is JobState.FAILED
    return job.build.reason


def test_an_honest_package_is_built(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "honest", "1.0"))

    assert job.state is JobState.BUILT
    assert job.build.wheel == "honest-1.0-py3-none-any.whl"


def test_a_socket_to_the_world_is_not_to_be_had(farm, tmp_path):
    setup = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"

    job = farm.build(make_sdist(tmp_path, "talker", "1.0", setup=setup))

    assert reason_of(job) is Reason.NEEDS_NETWORK


def test_a_name_cannot_be_looked_up(farm, tmp_path):
    setup = "import urllib.request; urllib.request.urlopen('http://example.invalid/')"

    job = farm.build(make_sdist(tmp_path, "asker", "1.0", setup=setup))

    assert reason_of(job) is Reason.NEEDS_NETWORK


def test_loopback_of_the_host_is_another_network(farm, tmp_path):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        setup = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"

        job = farm.build(make_sdist(tmp_path, "neighbour", "1.0", setup=setup))

        with contextlib.suppress(TimeoutError):
            heard.append(server.accept())
    assert job.state is JobState.FAILED
    assert not heard


def test_the_master_cannot_be_reached_from_a_build(farm, tmp_path):
    setup = f"import urllib.request; urllib.request.urlopen({farm.running.url + '/api/v1/status'!r})"

    job = farm.build(make_sdist(tmp_path, "insider", "1.0", setup=setup))

    assert job.state is JobState.FAILED


def test_the_home_directory_is_empty_and_forgotten(farm, tmp_path):
    setup = (
        "import os, pathlib; home = pathlib.Path.home(); print('home has', os.listdir(home));"
        "(home / '.bashrc').write_text('evil')"
    )

    job = farm.build(make_sdist(tmp_path, "homely", "1.0", setup=setup))

    assert job.state is JobState.BUILT
    assert "home has []" in farm.log(job)
    again = farm.build(make_sdist(tmp_path, "homely2", "1.0", setup=setup))
    assert "home has []" in farm.log(again)


def test_the_home_directory_of_the_builder_cannot_be_written(farm, tmp_path):
    target = tmp_path / "home" / ".profile"
    target.parent.mkdir()
    target.parent.chmod(0o777)
    setup = f"open({str(target)!r}, 'w').write('evil')"

    job = farm.build(make_sdist(tmp_path, "burglar", "1.0", setup=setup))

    assert job.state is JobState.FAILED
    assert not target.exists()


@pytest.mark.parametrize("path", ["/home/builder2/.profile", "/root/.profile", "/var/lib/x", "/etc/profile"])
def test_writing_outside_the_sandbox_is_denied(farm, tmp_path, path):
    setup = f"open({path!r}, 'w').write('evil')"

    job = farm.build(make_sdist(tmp_path, "burglar", "1.0", setup=setup))

    assert reason_of(job) is Reason.SANDBOX_DENIED
    assert job.build.captured == path


def test_usr_is_read_only(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "usurper", "1.0", setup="open('/usr/bin/evil', 'w')"))

    assert reason_of(job) is Reason.SANDBOX_DENIED


def test_the_keys_of_the_builder_are_not_there(farm, tmp_path):
    keys = [farm.data / "keys" / name for name in ("builder.key", "operator.key")]
    assert all(key.exists() for key in keys)
    setup = f"[print(open(path).read()) for path in {[str(key) for key in keys]}]"

    job = farm.build(make_sdist(tmp_path, "thief", "1.0", setup=setup))

    assert job.state is JobState.FAILED
    assert "FileNotFoundError" in farm.log(job)
    assert not any(key.read_text().strip() in farm.log(job) for key in keys)


def test_a_well_known_secret_of_the_host_is_denied(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "thief", "1.0", setup="open('/etc/shadow').read()"))

    assert reason_of(job) is Reason.SANDBOX_DENIED
    assert job.build.captured == "/etc/shadow"


def test_the_environment_of_the_builder_is_not_inherited(farm, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDER_SECRET", "hunter2")
    setup = "import os; print(sorted(os.environ.items()))"

    job = farm.build(make_sdist(tmp_path, "nosy", "1.0", setup=setup))

    assert job.state is JobState.BUILT
    assert "hunter2" not in farm.log(job)
    assert "'SOURCE_DATE_EPOCH', '1704164645'" in farm.log(job)


def test_another_build_s_files_are_not_to_be_seen(farm, tmp_path):
    waiting = "import time; open('/build/src/secret', 'w').write('s3cret'); time.sleep(1.5)"
    slow = make_sdist(tmp_path, "slow", "1.0", setup=waiting)
    outcome = {}
    thread = threading.Thread(target=lambda: outcome.update(job=farm.build(slow)))
    thread.start()
    deadline = time.monotonic() + 60
    found = []
    while not found and time.monotonic() < deadline:
        found = [room / "src" / "secret" for room in farm.rooms() if (room / "src" / "secret").exists()]
        time.sleep(0.02)
    setup = f"import glob; print('sees', glob.glob('/build/../*/*/secret')); open({str(found[0])!r})"

    job = farm.build(make_sdist(tmp_path, "spy", "1.0", setup=setup))

    thread.join()
    assert outcome["job"].state is JobState.BUILT
    assert job.state is JobState.FAILED
    assert "sees []" in farm.log(job)
    assert "s3cret" not in farm.log(job)


def test_processes_of_the_host_are_not_to_be_seen(farm, tmp_path):
    setup = "import os; print('sees', len([p for p in os.listdir('/proc') if p.isdigit()]))"

    job = farm.build(make_sdist(tmp_path, "peeper", "1.0", setup=setup))

    seen = int(farm.log(job).split("sees ")[1].split()[0])
    assert seen <= 3


def test_package_code_has_no_privileges_and_gets_none(farm, tmp_path):
    setup = (
        "import os, ctypes\n"
        "status = [line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))]\n"
        "print('uid', os.getuid(), status)\n"
        "print('unshare', ctypes.CDLL(None, use_errno=True).unshare(0x10000000), ctypes.get_errno())\n"
    )

    job = farm.build(make_sdist(tmp_path, "climber", "1.0", setup=setup))

    log = farm.log(job)
    assert "uid 1000 ['CapEff:\\t0000000000000000\\n', 'NoNewPrivs:\\t1\\n']" in log
    assert "unshare -1" in log


def test_a_wheel_that_is_a_link_to_a_secret_is_not_read(farm, tmp_path):
    setup = (
        "import os\n"
        "config['filename'] = 'real.whl'\n"
        "os.symlink('/etc/passwd', os.path.join(wheel_directory, 'linked-1.0-py3-none-any.whl'))\n"
    )
    ask = ""
    sdist = make_sdist(tmp_path, "linked", "1.0", setup=setup, ask=ask)

    job = farm.build(sdist)

    assert reason_of(job) in {Reason.WHEEL_INVALID, Reason.WHEEL_WRONG_NAME}


def test_an_extension_that_cannot_be_loaded_is_not_published(farm, tmp_path):
    source = c_extension("_broken", prelude="extern int nowhere(void); int use(void) { return nowhere(); }")

    job = farm.build(make_sdist(tmp_path, "broken", "1.0", c_source=source))

    assert reason_of(job) is Reason.LOAD_FAILED
    assert "nowhere" in job.build.evidence


def test_a_sandbox_that_cannot_be_set_up_is_no_fault_of_the_package(farm, tmp_path):
    (farm.data / "builder" / "etc" / "passwd").unlink()

    job = farm.build(make_sdist(tmp_path, "innocent", "1.0"))

    assert reason_of(job) is Reason.BUILDER_FAILED
    assert "bwrap: " in farm.log(job)


def test_links_under_names_that_the_builder_uses_lead_nowhere(farm, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    owner = outside.stat().st_uid
    setup = f"import os; os.symlink({str(outside)!r}, '/build/unpacked')"

    job = farm.build(make_sdist(tmp_path, "linker", "1.0", setup=setup, c_source=c_extension("_linker")))

    assert job.state is JobState.BUILT
    assert not list(outside.iterdir())
    assert outside.stat().st_uid == owner


def test_a_wheel_is_not_taken_from_a_directory_that_is_a_link(farm, tmp_path):
    outside = tmp_path / "outside"
    make_wheel(outside_made(outside), "diverter", "1.0")
    setup = (
        "import atexit, os, shutil\n"
        "def divert():\n"
        f"    shutil.rmtree('/build/out'); os.symlink({str(outside)!r}, '/build/out')\n"
        "atexit.register(divert)\n"
    )

    job = farm.build(make_sdist(tmp_path, "diverter", "1.0", setup=setup))

    assert reason_of(job) is Reason.WHEEL_INVALID


def outside_made(directory):
    directory.mkdir()
    return directory


def test_a_bubblewrap_that_never_begins_is_ended(builds, open_tmp_path, monkeypatch):
    program = open_tmp_path / "bwrap"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(builds.workshop.sandbox, "_program", str(program))
    monkeypatch.setattr(sandbox, "_SET_UP_S", 0.1)

    done = builds.build(make_sdist(open_tmp_path, "tiny", "1.0"))

    assert done.reason is Reason.BUILDER_FAILED
    assert "did not begin" in done.record.what
