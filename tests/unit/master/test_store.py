# SPDX-License-Identifier: BSD-3-Clause
"""The wheel store: uploads, and publication that a crash cannot leave half done."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from piwheels_node.core.errors import StorageError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.master.wheels.locks import open_locked
from piwheels_node.master.wheels.store import WheelStore, WrongOffsetError

NAME = "thing-1.0-py3-none-any.whl"
STEPS = ["begin", "metadata synced", "metadata", "synced", "linked", "end"]
METADATA = b"Metadata-Version: 2.1\nName: thing\n" * 50
CONTENT = b"wheel" * 5000


@pytest.fixture
def store(tmp_path):
    return WheelStore(tmp_path)


def upload(store, content=CONTENT, job_id=1, token="t" * 32):
    path = store.incoming(job_id, token)
    store.write_at(path, 0, content, len(content))
    return path


def publish(store, content=CONTENT):
    path = upload(store, content)
    final = store.publish(path, "thing", NAME, METADATA)
    store.discard(path)
    return final


def files(tmp_path):
    """All but the files that stand for locks."""
    return {path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "locks"}


def test_an_upload_arrives_in_parts(store):
    path = store.incoming(1, "t" * 32)

    assert store.write_at(path, 0, b"abc", 6) == 3
    assert store.write_at(path, 3, b"def", 6) == 6
    assert path.read_bytes() == b"abcdef"


@pytest.mark.parametrize("offset", [0, 2, 4, 10**12, -1])
def test_a_part_that_does_not_begin_where_the_file_ends_is_told_where(store, offset):
    path = upload(store, b"abc")
    with pytest.raises(WrongOffsetError) as caught:
        store.write_at(path, offset, b"x", 100)

    assert caught.value.offset == 3
    assert path.read_bytes() == b"abc"


def test_more_than_was_announced_is_refused(store):
    path = upload(store, b"abc")
    with pytest.raises(WheelError) as caught:
        store.write_at(path, 3, b"defg", 6)

    assert caught.value.reason is FailureReason.WHEEL_TOO_BIG
    assert path.read_bytes() == b"abc"


def test_an_upload_has_its_own_file_for_each_job_and_lease(store):
    names = {store.incoming(job, token).name for job in (1, 2) for token in ("a" * 32, "b" * 32, "../../x")}

    assert len(names) == 6
    assert not any("a" * 32 in name or "/" in name for name in names)


def test_an_upload_does_not_follow_a_link(store, tmp_path):
    path = store.incoming(1, "t" * 32)
    victim = tmp_path / "victim"
    path.symlink_to(victim)
    with pytest.raises(StorageError):
        store.write_at(path, 0, b"x", 1)

    assert not victim.exists()


def test_a_sealed_upload_cannot_be_changed(store):
    path = upload(store, b"good")
    sealed = store.seal(path)
    upload(store, b"evil")

    assert store.seal(path) == sealed
    assert sealed.read_bytes() == b"good"


def test_sealing_what_was_never_uploaded_blames_the_builder(store):
    with pytest.raises(WheelError) as caught:
        store.seal(store.incoming(1, "t" * 32))
    assert caught.value.reason is FailureReason.BUILDER_FAILED


def test_discarding_takes_the_upload_away_sealed_or_not(store, tmp_path):
    store.discard(upload(store, b"a"))
    path = upload(store, b"b", job_id=2)
    store.seal(path)
    store.discard(path)
    store.discard(path)

    assert files(tmp_path) == set()


def test_a_published_wheel_has_its_metadata_beside_it_and_all_may_read_both(store, tmp_path):
    final = publish(store)

    assert final == store.path("thing", NAME) == tmp_path / "wheels" / "thing" / NAME
    assert final.read_bytes() == CONTENT
    assert store.metadata_path("thing", NAME).read_bytes() == METADATA
    assert {stat.S_IMODE(p.stat().st_mode) for p in final.parent.iterdir()} == {0o644}
    assert final.stat().st_nlink == 1
    assert files(tmp_path) == {NAME, f"{NAME}.metadata"}


def test_publishing_the_same_bytes_again_is_harmless(store):
    publish(store)
    before = store.path("thing", NAME).stat().st_ino
    publish(store)

    assert store.path("thing", NAME).stat().st_ino == before


def test_a_published_file_never_changes(store):
    publish(store)
    path = upload(store, b"other")
    with pytest.raises(StorageError, match="never changes"):
        store.publish(path, "thing", NAME, b"other metadata")

    assert store.path("thing", NAME).read_bytes() == CONTENT
    assert store.metadata_path("thing", NAME).read_bytes() == METADATA
    assert path.read_bytes() == b"other"


def test_a_file_that_the_database_does_not_know_is_replaced(store):
    """It was stored, and then the transaction failed; the next build has other bytes."""
    assert not store.is_leftover(upload(store), "thing", NAME)
    store.discard(store.incoming(1, "t" * 32))
    publish(store)
    assert not store.is_leftover(upload(store), "thing", NAME)
    store.discard(store.incoming(1, "t" * 32))
    path = upload(store, b"other")
    assert store.is_leftover(path, "thing", NAME)
    store.publish(path, "thing", NAME, b"other metadata", name_is_ours=True)

    assert store.path("thing", NAME).read_bytes() == b"other"
    assert store.metadata_path("thing", NAME).read_bytes() == b"other metadata"


@pytest.mark.parametrize(
    ("project", "filename"),
    [
        ("thing", "../thing-1.0-py3-none-any.whl"),
        ("thing", "thing-1.0-py3-none-x/../../any.whl"),
        ("thing", "thing-1.0-py3-none-any\0.whl"),
        ("..", NAME),
        ("Thing", NAME),
        ("a/b", NAME),
        ("", NAME),
        ("thing", "thing.whl"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(store, tmp_path, project, filename):
    path = upload(store)
    with pytest.raises(WheelError):
        store.publish(path, project, filename, METADATA)
    assert files(tmp_path) == {path.name}


CHILD = """
import os, signal, sys
from pathlib import Path
from piwheels_node.master.wheels.store import WheelStore
root, step = Path(sys.argv[1]), sys.argv[2]
def die(now):
    if now == step:
        os.kill(os.getpid(), signal.SIGKILL)
store = WheelStore(root, at_step=die)
path = store.incoming(1, "t" * 32)
store.publish(path, "thing", sys.argv[3], path.with_suffix(".metadata").read_bytes())
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_nothing_or_a_whole_file_and_can_be_made_good(store, tmp_path, step):
    path = upload(store)
    path.with_suffix(".metadata").write_bytes(METADATA)
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), step, NAME], check=False)
    assert child.returncode == -signal.SIGKILL

    final, beside = store.path("thing", NAME), store.metadata_path("thing", NAME)
    assert not final.exists() or (final.read_bytes() == CONTENT and beside.read_bytes() == METADATA)
    assert not beside.exists() or beside.read_bytes() == METADATA
    store.publish(path, "thing", NAME, METADATA)
    assert final.read_bytes() == CONTENT
    assert beside.read_bytes() == METADATA
    assert {entry.name for entry in final.parent.iterdir()} == {NAME, f"{NAME}.metadata"}


def test_the_steps_are_all_tried_above(tmp_path):
    seen = []
    publish(WheelStore(tmp_path, at_step=seen.append))

    assert seen == STEPS


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["begin", "metadata synced", "synced"])
def test_a_full_disk_is_a_storage_error_and_publishes_nothing(tmp_path, step, code):
    def full(now):
        if now == step:
            raise OSError(code, os.strerror(code))

    store = WheelStore(tmp_path, at_step=full)
    with pytest.raises(StorageError, match="disk is full") as caught:
        publish(store)

    assert "free some disk" in str(caught.value)
    assert not store.path("thing", NAME).exists()
    assert store.incoming(1, "t" * 32).read_bytes() == CONTENT
    assert not any(name.endswith(".tmp") for name in files(tmp_path))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from piwheels_node.core.errors import StorageError
from piwheels_node.master.wheels.store import WheelStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = WheelStore(Path(sys.argv[1]))
path = store.incoming(1, "t" * 32)
store.write_at(path, 0, b"a" * 600, 10**6)
try:
    store.write_at(path, 600, b"b" * 600, 10**6)
except StorageError:
    sys.exit(path.read_bytes() != b"a" * 600)
sys.exit(2)
"""


def test_a_part_that_the_disk_takes_only_half_of_leaves_no_trace(tmp_path):
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True)


def test_cleaning_takes_uploads_that_nobody_continues_and_leaves_the_rest(store, tmp_path):
    publish(store)
    old, young = upload(store, b"old", job_id=2), upload(store, b"young", job_id=3)
    leftover = tmp_path / "incoming" / "0123.tmp"
    leftover.write_bytes(b"x")
    long_ago = time.time() - 7 * 3600
    for path in (old, leftover, store.path("thing", NAME)):
        os.utime(path, (long_ago, long_ago))

    assert store.clean(datetime.now(UTC)) == 2
    assert files(tmp_path) == {young.name, NAME, f"{NAME}.metadata"}
    assert store.clean(datetime.now(UTC) + timedelta(hours=7)) == 1


def test_free_disk_is_told(store):
    assert store.free_bytes() > 0


def test_a_root_that_cannot_be_used_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        WheelStore(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


WRITER = """
import sys
from pathlib import Path
from piwheels_node.core.errors import WheelError
from piwheels_node.master.wheels.store import WheelStore, WrongOffsetError
store, letter = WheelStore(Path(sys.argv[1])), sys.argv[2].encode()
path, offset, written = store.incoming(1, "t" * 32), 0, 0
while True:
    try:
        offset = store.write_at(path, offset, letter * 1000, 200_000)
        written += 1
    except WrongOffsetError as error:
        offset = error.offset
    except WheelError:
        break
print(written)
"""


def start(program, *words):
    return subprocess.Popen([sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE)


def test_parts_that_come_through_several_processes_at_once_never_mix(store, tmp_path):
    writers = [start(WRITER, tmp_path, letter) for letter in "abc"]
    written = [int(writer.communicate(timeout=30)[0]) for writer in writers]

    content = store.incoming(1, "t" * 32).read_bytes()
    blocks = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    assert sum(written) == len(blocks) == 200
    assert all(len(set(block)) == 1 for block in blocks)


SEALER = """
import sys
from pathlib import Path
from piwheels_node.core.errors import WheelError
from piwheels_node.master.wheels.store import WheelStore
store = WheelStore(Path(sys.argv[1]))
print(store.seal(store.incoming(1, "t" * 32)).read_bytes().decode())
"""


def test_what_one_process_sealed_another_one_finds_whatever_was_uploaded_since(store, tmp_path):
    store.seal(upload(store, b"good"))
    upload(store, b"evil")
    sealers = [start(SEALER, tmp_path) for _ in range(2)]

    assert {sealer.communicate(timeout=30)[0] for sealer in sealers} == {b"good\n"}


def test_sealing_waits_for_a_part_that_is_being_written(store):
    path = upload(store, b"first ")
    sealed = []
    with open_locked(path) as descriptor:
        sealing = threading.Thread(target=lambda: sealed.append(store.seal(path)))
        sealing.start()
        sealing.join(0.1)
        assert path.exists()
        os.pwrite(descriptor, b"second", 6)
    sealing.join()

    assert sealed[0].read_bytes() == b"first second"


def test_a_part_that_waited_while_the_upload_was_thrown_away_goes_into_no_lost_file(store):
    path = upload(store, b"old")
    caught = []

    def write():
        try:
            store.write_at(path, 3, b"new", 100)
        except WrongOffsetError as error:
            caught.append(error.offset)

    with open_locked(path):
        writing = threading.Thread(target=write)
        writing.start()
        writing.join(0.1)
        path.unlink()
    writing.join()

    assert caught == [0]


PUBLISHER = """
import os, signal, sys
from pathlib import Path
from piwheels_node.master.wheels.store import WheelStore
root, job, step, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def die(now):
    if now == step:
        os.kill(os.getpid(), signal.SIGKILL)
store = WheelStore(root, at_step=die)
path = store.incoming(job, "t" * 32)
with store.publishing("thing"):
    taken = (root / "taken").exists()  # stands for the database
    if not taken:
        store.publish(path, "thing", name, b"metadata of %d" % job, name_is_ours=True)
        (root / "taken").write_text(str(job))
store.discard(path)
print("taken" if taken else "published")
"""


@pytest.mark.parametrize("step", ["none", *STEPS])
def test_of_two_masters_that_publish_one_name_one_wins_even_where_the_other_is_killed(store, tmp_path, step):
    for job in (1, 2):
        upload(store, b"bytes of %d" % job, job_id=job)
    first, second = start(PUBLISHER, tmp_path, 1, step, NAME), start(PUBLISHER, tmp_path, 2, "none", NAME)
    said = first.communicate(timeout=30)[0], second.communicate(timeout=30)[0]

    winner = (tmp_path / "taken").read_text()
    assert store.path("thing", NAME).read_bytes() == b"bytes of %s" % winner.encode()
    assert store.metadata_path("thing", NAME).read_bytes() == b"metadata of %s" % winner.encode()
    if step == "none":
        assert sorted(said) == [b"published\n", b"taken\n"]
    else:
        assert said in {(b"", b"published\n"), (b"taken\n", b"published\n")}


def test_publications_of_different_projects_do_not_wait_for_each_other(store):
    with store.publishing("thing"), store.publishing("other"):
        pass


def test_a_publication_waits_for_another_one_of_its_project_in_another_process(store, tmp_path):
    upload(store)
    with store.publishing("thing"):
        publisher = start(PUBLISHER, tmp_path, 1, "none", NAME)
        with pytest.raises(subprocess.TimeoutExpired):
            publisher.communicate(timeout=0.6)
        assert not store.path("thing", NAME).exists()

    assert publisher.communicate(timeout=30)[0] == b"published\n"


def test_two_processes_clean_at_once(store, tmp_path):
    for job in range(300):
        path = upload(store, b"x", job_id=job)
        os.utime(path, (1, 1))
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from piwheels_node.master.wheels.store import WheelStore
print(WheelStore(Path(sys.argv[1])).clean(datetime.now(UTC)))
"""
    cleaners = [start(program, tmp_path) for _ in range(2)]
    removed = [int(cleaner.communicate(timeout=30)[0]) for cleaner in cleaners]

    assert sum(removed) == 300
    assert not list((tmp_path / "incoming").iterdir())
