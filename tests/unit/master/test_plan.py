# SPDX-License-Identifier: BSD-3-Clause
"""Which version is meant, and what to do about it: tables of cases."""

import pytest
from packaging.version import Version

from piwheels_node.core.errors import NotOnPyPIError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.master.jobs.plan import Build, Covered, Refused, admits, choose_version, plan
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
