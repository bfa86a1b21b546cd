# SPDX-License-Identifier: BSD-3-Clause
"""Shelves: one makes while others wait, what is in use stays, the rest fits; being killed costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from piwheels_node.builder.caches.shelves import Bound, Held, Shelf
from piwheels_node.builder.halt import Halt
from piwheels_node.core.errors import BuildError

NEVER = Halt()

OTHER_PROCESS = """
import sys, time
from pathlib import Path
from piwheels_node.builder.caches.shelves import Shelf
from piwheels_node.builder.halt import Halt

def make(entry):
    with open(sys.argv[2], "a") as made:
        made.write("making\\n")
    for number in range(int(sys.argv[3])):
        (entry / f"part-{number}").write_text("x" * 5000)
        time.sleep(0.001)
    (entry / "whole").write_text("whole")

print("ready", flush=True)
sys.stdin.readline()
with Shelf(Path(sys.argv[1])).get(
    "one", ready=lambda entry: (entry / "whole").exists(), make=make, halt=Halt()
):
    print("held", flush=True)
    sys.stdin.readline()
"""


def take(shelf: Shelf, name: str, content: str = "x", halt: Halt = NEVER) -> Held:
    """An entry that is whole once it has a file `file`."""

    def make(entry: Path) -> None:
        (entry / "file").write_text(content)

    return shelf.get(name, ready=lambda entry: (entry / "file").exists(), make=make, halt=halt)


def start(root: Path, log: Path, parts: int = 20) -> subprocess.Popen[str]:
    """Another process that takes the entry `one` once it is told to, and holds it until it is told again."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, root, log, str(parts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go on\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_threads_that_want_the_same_entry_make_it_once(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    made = []

    def make(entry: Path) -> None:
        made.append(entry)
        time.sleep(0.1)
        (entry / "file").touch()

    def get(_: int) -> Path:
        with shelf.get("one", ready=lambda entry: (entry / "file").exists(), make=make, halt=NEVER) as held:
            return held.path

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(get, range(8)))

    assert paths == {shelf.root / "one"}
    assert len(made) == 1


def test_processes_that_want_the_same_entry_make_it_once(tmp_path):
    log = tmp_path / "log"
    processes = [start(tmp_path / "shelf", log) for _ in range(2)]

    for process in processes:
        tell(process)
    for process in processes:
        assert process.stdout.readline() == "held\n"
        end(process)

    assert log.read_text() == "making\n"


def test_what_is_in_use_is_not_evicted_by_another_process_and_what_a_killed_one_used_is(tmp_path):
    process = start(tmp_path / "shelf", tmp_path / "log")
    tell(process)
    process.stdout.readline()
    shelf = Shelf(tmp_path / "shelf")

    assert Bound(shelf).shrink(0) == 0
    assert (shelf.root / "one" / "whole").exists()

    end(process)
    assert Bound(shelf).shrink(0) > 0
    assert not any(shelf.root.iterdir())


def test_a_process_that_is_killed_while_it_makes_leaves_nothing_that_is_believed_or_locked(tmp_path):
    log = tmp_path / "log"
    for number in range(8):
        process = start(tmp_path / "shelf", log, parts=100)
        tell(process)
        time.sleep(0.01 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    process = start(tmp_path / "shelf", log, parts=1)
    tell(process)
    said = process.stdout.readline()
    end(process)

    assert said == "held\n"
    assert (tmp_path / "shelf" / "one" / "whole").read_text() == "whole"


def test_the_longest_unused_go_first_and_no_more_than_must(tmp_path):
    shelves = Shelf(tmp_path / "one"), Shelf(tmp_path / "other", deep=True)
    for age in range(10):
        held = take(shelves[age % 2], f"{age}", "x" * 4096)
        held.close()
        os.utime(held.path, (time.time() - 1000 * age,) * 2)

    freed = Bound(*shelves).shrink(7 * 4096)

    left = sorted(entry.name for shelf in shelves for entry in shelf.root.iterdir())
    assert left == ["0", "1", "2", "3", "4", "5"], "a tenth less than the bound"
    assert freed == 4 * 4096


def test_using_an_entry_makes_it_young(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    for name in ("old", "new"):
        with take(shelf, name) as held:
            os.utime(held.path, (time.time() - 5000,) * 2)

    take(shelf, "old").close()
    Bound(shelf).shrink(8000)

    assert [entry.name for entry in shelf.root.iterdir()] == ["old"]


def test_what_is_added_is_noticed_without_counting_all(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path / "shelf")
    bound = Bound(shelf)
    take(shelf, "first").close()
    bound.shrink(5 * 4096)
    counted = []
    entries = shelf.entries
    monkeypatch.setattr(shelf, "entries", lambda: counted.append(1) or entries())

    for name in ("a", "b", "c", "d"):
        take(shelf, name).close()
        assert bound.shrink(5 * 4096) == 0
    assert not counted

    take(shelf, "e").close()
    assert bound.shrink(5 * 4096) > 0
    assert len(list(shelf.root.iterdir())) < 6


def test_what_another_process_adds_is_noticed_in_the_end(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    bound = Bound(shelf)
    bound.shrink(4096)
    for name in ("a", "b", "c"):
        take(Shelf(shelf.root), name).close()

    assert sum(bound.shrink(4096) for _ in range(200)) > 0


def test_only_one_evicts_at_a_time(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    for number in range(50):
        take(shelf, f"{number}").close()

    with ThreadPoolExecutor(4) as pool:
        freed = list(pool.map(lambda _: Bound(shelf).shrink(20 * 4096), range(4)))

    assert 18 <= len(list(shelf.root.iterdir())) <= 20
    assert sum(freed) in {30 * 4096, 32 * 4096}


def test_using_and_evicting_at_once_never_gives_what_is_gone(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    done = threading.Event()

    def evict() -> None:
        while not done.is_set():
            Bound(shelf).shrink(0)

    def use(number: int) -> None:
        for _ in range(50):
            with take(shelf, f"{number % 2}") as held:
                assert (held.path / "file").read_text() == "x"

    with ThreadPoolExecutor(4) as pool:
        evictor = pool.submit(evict)
        users = [pool.submit(use, number) for number in range(3)]
        try:
            for user in users:
                user.result()
        finally:
            done.set()
        evictor.result()


def test_what_somebody_was_removing_who_was_killed_is_removed(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    (shelf.root / "evicted-abc" / "deep").mkdir(parents=True)

    Bound(shelf).shrink(1 << 30)

    assert not any(shelf.root.iterdir())


def test_what_could_not_be_made_is_not_there_and_is_tried_again(tmp_path):
    shelf = Shelf(tmp_path / "shelf")

    def fail(_: Path) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        shelf.get("one", ready=lambda _: False, make=fail, halt=NEVER)

    assert not any(shelf.root.iterdir())
    take(shelf, "one").close()


def test_who_waits_for_an_entry_stops_when_told(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    stop = threading.Event()
    began = threading.Event()

    def make(entry: Path) -> None:
        began.set()
        stop.wait(30)
        (entry / "file").touch()

    with ThreadPoolExecutor(2) as pool:
        maker = pool.submit(shelf.get, "one", ready=lambda _: False, make=make, halt=NEVER)
        began.wait(30)
        waiting = pool.submit(take, shelf, "one", halt=Halt(stop))
        time.sleep(0.1)
        stop.set()
        with pytest.raises(BuildError):
            waiting.result(5)
        maker.result(5).close()


def test_an_entry_that_is_held_twice_stays_until_both_let_go(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    one, other = take(shelf, "one"), take(shelf, "one")

    one.close()
    assert Bound(shelf).shrink(0) == 0
    other.close()
    other.close()
    assert Bound(shelf).shrink(0) > 0
