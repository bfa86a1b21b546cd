# SPDX-License-Identifier: BSD-3-Clause
"""Which version is meant, and what to do about it: tables of cases."""

from datetime import UTC, datetime, timedelta

import pytest
from packaging.version import Version

from piwheels_node.core.errors import NotOnPyPIError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.targets import Target
from piwheels_node.master.jobs.plan import (
    Attempt,
    Build,
    Covered,
    Failed,
    Made,
    Refused,
    Scope,
    UnderWay,
    Unwanted,
    Waits,
    Wanted,
    admits,
    choose_version,
    plan,
    plan_release,
)
from piwheels_node.master.jobs.urgency import faded, liking, urgency
from piwheels_node.master.pypi.listing import read_listing

PI = Target.parse("cp313-linux_armv7l-debian13")
PC = Target.parse("cp311-linux_x86_64-debian12")
SHA = "0" * 64


def listing(*files):
    """Files as names, or as (name, {key of PEP 691: value})."""
    entries = []
    for file in files:
        name, more = (file, {}) if isinstance(file, str) else file
        entries.append({"filename": name, "url": f"../../f/{name}", "hashes": {"sha256": SHA}, **more})
    return read_listing("Foo", "http://127.0.0.1/simple/foo/", {"files": entries})


def needs(python):
    return {"requires-python": python}


YANKED = {"yanked": "broken"}


@pytest.mark.parametrize(
    ("files", "target", "force", "expected"),
    [
        (["foo-1.tar.gz"], PI, False, "foo-1.tar.gz"),
        (["foo-1.zip", "foo-1.tar.gz"], PI, False, "foo-1.tar.gz"),
        (["foo-1.zip"], PI, False, "foo-1.zip"),
        (["foo-1.tar.gz", "foo-1-py3-none-any.whl"], PI, False, "foo-1-py3-none-any.whl"),
        (["foo-1.tar.gz", "foo-1-py2.py3-none-any.whl"], PI, False, "foo-1-py2.py3-none-any.whl"),
        (["foo-1.tar.gz", "foo-1-py3-none-any.whl"], PI, True, "foo-1.tar.gz"),
        (["foo-1.tar.gz", "foo-1-py2-none-any.whl"], PI, False, "foo-1.tar.gz"),
        (["foo-1.tar.gz", "foo-1-cp313-cp313-manylinux_2_17_x86_64.whl"], PI, False, "foo-1.tar.gz"),
        (["foo-1.tar.gz", "foo-1-cp313-cp313-musllinux_1_2_armv7l.whl"], PI, False, "foo-1.tar.gz"),
        (["foo-1.tar.gz", "foo-1-cp313-cp313-win_amd64.whl"], PI, False, "foo-1.tar.gz"),
        (["foo-1.tar.gz", "foo-1-cp313-cp313t-linux_armv7l.whl"], PI, False, "foo-1.tar.gz"),
        (
            ["foo-1.tar.gz", "foo-1-cp313-cp313-manylinux_2_31_armv7l.whl"],
            PI,
            False,
            "foo-1-cp313-cp313-manylinux_2_31_armv7l.whl",
        ),
        (["foo-1.tar.gz", "foo-1-cp311-cp311-manylinux_2_39_x86_64.whl"], PC, False, "foo-1.tar.gz"),
        (
            ["foo-1.tar.gz", "foo-1-cp39-abi3-manylinux2014_x86_64.whl"],
            PC,
            False,
            "foo-1-cp39-abi3-manylinux2014_x86_64.whl",
        ),
        (
            ["foo-1-py3-none-any.whl", "foo-1-cp311-cp311-manylinux2014_x86_64.whl"],
            PC,
            False,
            "foo-1-cp311-cp311-manylinux2014_x86_64.whl",
        ),
        (["foo-1.tar.gz", ("foo-1-py3-none-any.whl", YANKED)], PI, False, "foo-1.tar.gz"),
        ([("foo-1.tar.gz", YANKED)], PI, False, "foo-1.tar.gz"),
        (["foo-1.tar.gz", ("foo-1-py3-none-any.whl", needs("<3.0"))], PI, False, "foo-1.tar.gz"),
        ([("foo-1.tar.gz", needs(">=3.8"))], PI, False, "foo-1.tar.gz"),
        ([("foo-1.tar.gz", needs(">=3.14"))], PI, False, FailureReason.REQUIRES_PYTHON),
        ([("foo-1-py3-none-any.whl", needs("<3.13"))], PI, False, FailureReason.REQUIRES_PYTHON),
        ([("foo-1.tar.gz", needs(">=three"))], PI, False, "foo-1.tar.gz"),
        (["foo-1-cp313-cp313-win_amd64.whl"], PI, False, FailureReason.NO_SDIST),
        (["foo-1-py3-none-any.whl"], PI, True, FailureReason.NO_SDIST),
        ([("foo-1.tar.gz", {"hashes": {"md5": "0"}})], PI, False, FailureReason.NO_SDIST),
        ([], PI, False, FailureReason.NO_SDIST),
    ],
)
def test_plan(files, target, force, expected):
    decision = plan(listing(*files).files, target, force=force)
    match decision:
        case Covered(file):
            assert (file.filename, file.is_sdist) == (expected, False)
        case Build(sdist):
            assert (sdist.filename, sdist.is_sdist) == (expected, True)
        case Refused(reason, what):
            assert reason is expected
            assert what


@pytest.mark.parametrize(
    ("files", "wanted", "expected"),
    [
        (["foo-1.9.tar.gz", "foo-1.10.tar.gz"], None, "1.10"),
        (["foo-1.0.tar.gz", "foo-2.0rc1.tar.gz"], None, "1.0"),
        (["foo-1.0.tar.gz", "foo-2.0.dev3.tar.gz"], None, "1.0"),
        (["foo-2.0a1.tar.gz", "foo-2.0b1.tar.gz"], None, "2.0b1"),
        (["foo-1.0.tar.gz", ("foo-2.0.tar.gz", YANKED)], None, "1.0"),
        (["foo-1.0.tar.gz", ("foo-2.0.tar.gz", {"yanked": True})], None, "1.0"),
        (["foo-1.0.tar.gz", ("foo-2.0.tar.gz", needs(">=3.14"))], None, "1.0"),
        ([("foo-1.0.tar.gz", needs("<3")), ("foo-2.0.tar.gz", needs(">=3.14"))], None, "2.0"),
        (["foo-1.0.tar.gz", "foo-2.0.exe", "foo-2.0-1.rpm", "bar-3.0.tar.gz"], None, "1.0"),
        (["foo-1.0.tar.gz", "foo-2.0.tar.gz"], "1.0.0", "1.0"),
        (["foo-1.0.tar.gz", ("foo-2.0.tar.gz", YANKED)], "2.0", "2.0"),
        (["foo-1.0.tar.gz", "foo-2.0rc1.tar.gz"], "2.0RC1", "2.0rc1"),
    ],
)
def test_choose_version(files, wanted, expected):
    assert choose_version(listing(*files), wanted, PI) == Version(expected)


@pytest.mark.parametrize(
    ("files", "wanted", "hint"),
    [
        (["foo-1.0.tar.gz", "foo-3.0.tar.gz"], "2.0", "1.0"),
        (["foo-1.0.tar.gz"], "not a version", "it has 1.0"),
        ([], "1.0", "no version at all"),
        ([], None, "None"),
        ([("foo-1.0.tar.gz", YANKED)], None, "name a version"),
    ],
)
def test_a_version_that_is_not_there_is_an_error_that_names_some(files, wanted, hint):
    with pytest.raises(NotOnPyPIError) as error:
        choose_version(listing(*files), wanted, PI)
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        (">=3.13.2", True),
        ("==3.13.*", True),
        ("<3.13", False),
        ("!=3.13.*", False),
        ("~=3.12", True),
        (None, True),
    ],
)
def test_a_python_fits_where_one_of_its_micro_versions_does(spec, fits):
    assert admits(spec, PI) is fits


def test_a_listing_keeps_the_spelling_of_versions_and_makes_urls_whole():
    project = read_listing(
        "Foo.Bar",
        "http://127.0.0.1/simple/foo-bar/",
        {
            "versions": ["1.00", "nonsense", None],
            "files": [
                {
                    "filename": "foo_bar-1.00.tar.gz",
                    "url": "../../f/foo_bar-1.00.tar.gz#sha256=1",
                    "hashes": {},
                },
                {"filename": "foo_bar-2.0.tar.gz", "url": "file:///etc/passwd", "hashes": {}},
                "nonsense",
                {"filename": 7},
            ],
        },
    )
    assert project.name == "foo-bar"
    assert [file.url for file in project.files] == ["http://127.0.0.1/f/foo_bar-1.00.tar.gz"]
    assert project.spelling(Version("1")) == "1.00"


P9 = Target.parse("cp39-linux_armv7l-debian11")
P11 = Target.parse("cp311-linux_armv7l-debian12")
P13 = PI
P6 = Target.parse("cp313-linux_armv6l-debian13")
SD = "foo-1.tar.gz"
WIN = "foo-1-cp313-cp313-win_amd64.whl"
NATIVE = "foo-1-cp39-cp39-linux_armv7l.whl"
ABI3 = "foo-1-cp39-abi3-linux_armv7l.whl"
PURE = "foo-1-py3-none-any.whl"
ONLY_ARM7 = "foo-1-py3-none-linux_armv7l.whl"
BOTH_ARMS = "foo-1-cp313-cp313-linux_armv6l.linux_armv7l.whl"


def built(*wheels):
    return Attempt(JobState.BUILT, None, wheels)


def failed(reason):
    return Attempt(JobState.FAILED, reason)


READY, LEASED = Attempt(JobState.READY), Attempt(JobState.LEASED)
WISHED = Attempt(JobState.READY, was_asked=True)
SKIP = Wanted(skipped="skipped by me: too big")


@pytest.mark.parametrize(
    ("files", "attempts", "wanted", "expected"),
    [
        # the oldest Python first (not the first by text), and the others wait for what comes of it
        ([SD], {}, Wanted(), [Build, Waits, Waits, Waits]),
        ([SD], {P9: LEASED}, Wanted(), [UnderWay, Waits, Waits, Waits]),
        ([SD], {P9: built(PURE)}, Wanted(), [Made, Made, Made, Made]),
        # compiled: PyPI's other wheels show it, or ours
        ([SD, WIN], {}, Wanted(), [Build, Build, Build, Build]),
        ([SD], {P9: built(NATIVE)}, Wanted(), [Made, Build, Build, Build]),
        ([SD, WIN], {P9: LEASED}, Wanted(), [UnderWay, Build, Build, Build]),
        # one wheel for later Pythons of a platform
        ([SD, "foo-1-cp39-abi3-win_amd64.whl"], {}, Wanted(), [Build, Waits, Build, Waits]),
        ([SD], {P9: built(ABI3)}, Wanted(), [Made, Made, Build, Made]),
        ([SD], {P11: built("foo-1-cp311-abi3-linux_armv7l.whl")}, Wanted(), [Build, Made, Build, Made]),
        ([SD], {P9: built(ONLY_ARM7)}, Wanted(), [Made, Made, Build, Made]),
        ([SD, WIN], {P6: built(BOTH_ARMS)}, Wanted(), [Build, Build, Made, Made]),
        # what PyPI covers, for the target with its own tags
        ([SD, "foo-1-cp313-cp313-manylinux_2_31_armv7l.whl"], {}, Wanted(), [Build, Build, Build, Covered]),
        ([SD, PURE], {}, Wanted(), [Covered, Covered, Covered, Covered]),
        ([SD, PURE], {}, Wanted(Scope.EVERYTHING), [Build, Waits, Waits, Waits]),
        # failures move on by their reason
        ([SD], {P9: failed(FailureReason.COMPILER_ERROR)}, Wanted(), [Failed, Build, Waits, Waits]),
        ([SD], {P9: failed(FailureReason.BAD_ARCHIVE)}, Wanted(), [Failed, Refused, Refused, Refused]),
        ([SD], {P9: failed(FailureReason.WRONG_PLATFORM)}, Wanted(), [Failed, Build, Waits, Waits]),
        ([SD], {P9: Attempt(JobState.CANCELLED)}, Wanted(), [Failed, Build, Waits, Waits]),
        ([SD], {P9: Attempt(JobState.QUARANTINED)}, Wanted(), [Failed, Build, Waits, Waits]),
        ([SD], {P9: built()}, Wanted(), [Failed, Build, Waits, Waits]),  # its wheel was withdrawn
        # Requires-Python
        ([(SD, needs(">=3.10"))], {}, Wanted(), [Refused, Build, Waits, Waits]),
        # rules and scopes; what waits is spared, what somebody asked for is not
        ([SD], {}, SKIP, [Unwanted, Unwanted, Unwanted, Unwanted]),
        ([SD], {P9: READY, P11: LEASED}, SKIP, [Unwanted, UnderWay, Unwanted, Unwanted]),
        ([SD], {P9: WISHED}, SKIP, [UnderWay, Unwanted, Unwanted, Unwanted]),
        ([SD], {P9: built(NATIVE)}, SKIP, [Made, Unwanted, Unwanted, Unwanted]),
        ([SD], {}, Wanted(Scope.REQUESTED), [Unwanted, Unwanted, Unwanted, Unwanted]),
        ([SD], {}, Wanted(Scope.REQUESTED, asked=frozenset({P13})), [Unwanted, Unwanted, Unwanted, Build]),
        ([SD, PURE], {P9: READY}, Wanted(), [Covered, Covered, Covered, Covered]),
        ([(SD, YANKED)], {}, Wanted(), [Unwanted, Unwanted, Unwanted, Unwanted]),
        ([], {}, Wanted(), [Refused, Refused, Refused, Refused]),
    ],
)
def test_plan_release(files, attempts, wanted, expected):
    found = plan_release(listing(*files).files, [P13, P6, P11, P9], attempts, wanted)

    assert list(found) == [P9, P11, P6, P13]
    assert [type(one) for one in found.values()] == expected


def test_who_waits_says_for_what():
    found = plan_release(listing(SD).files, [P13, P9])
    assert found[P13] == Waits(P9)


NOW = datetime(2026, 11, 22, tzinfo=UTC)


def soon(days, popularity=None, *, is_newest=True, is_pre=False):
    at = None if days is None else NOW - timedelta(days=days)
    return urgency(at, NOW, liked=liking(popularity, 0), is_newest=is_newest, is_pre=is_pre)


def test_urgency_is_new_first_popular_first_then_the_young():
    order = [
        soon(1, 1),
        soon(1, 1000),
        soon(1),
        soon(100, 1),
        soon(3000, 1),
        soon(100),
        soon(300),
        soon(300, is_pre=True),
        soon(None),
    ]
    assert order == sorted(order, reverse=True)
    assert min(order) >= Priority.BACKLOG
    assert max(order) < Priority.MISSED
    assert soon(15, 1) < Priority.RELEASED
    assert soon(100, 10, is_newest=False) < soon(100, 10)
    assert soon(-5) == Priority.RELEASED


def test_a_project_is_wanted_as_much_as_the_world_says_or_our_own_index():
    assert liking(None, 0) == 0
    assert liking(100, 0) == pytest.approx(liking(None, 999))
    assert liking(100, 5) == liking(100, 0)
    assert liking(10**9, 0) == 0
    assert liking(1, 10**9) == 50


def test_what_was_asked_for_long_ago_fades():
    assert faded(8, None, NOW) == 8
    assert faded(8, NOW - timedelta(days=30), NOW) == pytest.approx(4)
    assert faded(8, NOW + timedelta(days=1), NOW) == 8
    assert faded(8, NOW - timedelta(days=3650), NOW) < 1e-6
