# SPDX-License-Identifier: BSD-3-Clause
"""What feeds tell, read from hostile bytes; and what PyPI has, stored in few."""

from __future__ import annotations

import json
import xmlrpc.client
import zlib

import pytest
from packaging.version import Version

from piwheels_node.core.errors import PyPIError, StorageError
from piwheels_node.master.pypi import changelog, stored
from piwheels_node.master.pypi.changelog import Event
from piwheels_node.master.pypi.feeds import Changelog, Watch, read_list
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import read_listing


def rpc(*rows):
    return xmlrpc.client.dumps((list(rows),), methodresponse=True, allow_none=True).encode()


def test_the_change_log_is_read_row_by_row_and_nonsense_is_left_out():
    body = rpc(
        ["Foo", "1.0", 1, "new release", 7],
        ["Bar", None, 1, "remove", 8],
        ["x"],
        7,
        ["Baz", "1", 1, "a", "9"],
    )
    assert changelog.answer(body) == [Event("Foo", 7), Event("Bar", 8)]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>", "no answer"),
        (b"", "no answer"),
        (b"\xff\xfe<\0", "decode"),
        (rpc()[:-20], "no answer"),
        (rpc().replace(b"array", b"struct"), "no answer|not a list"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + rpc(), "document type"),
        (b'<?xml version="1.0" encoding="utf-16"?>' + rpc(), "utf-16"),
        (xmlrpc.client.dumps((7,), methodresponse=True).encode(), "not a list"),
        (
            xmlrpc.client.dumps(xmlrpc.client.Fault(-32500, "HTTPTooManyRequests: later")).encode(),
            "HTTPTooManyRequests: later .-32500",
        ),
        (rpc().replace(b"<data>", b"<data><value><int>9x</int></value>"), "no answer"),
    ],
)
def test_what_is_no_change_log_is_said(body, what):
    with pytest.raises(ValueError, match=what):
        changelog.answer(body)


def listed(*projects, **meta):
    return json.dumps({"meta": {"api-version": "1.4", **meta}, "projects": list(projects)}).encode()


def entry(name, serial=1):
    return {"_last-serial": serial, "name": name}


def read(body, size=7):
    heard = list(read_list([body[at : at + size] for at in range(0, len(body), size)], "here"))
    return {name: serial for one in heard for name, serial in one.changes.items()}, heard[-1].serial


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_list_is_read_in_pieces_wherever_they_are_cut(size):
    body = listed(entry("Foo.Bar", 3), entry('a"{}[]b', 4), entry("x" * 201), {"name": 7}, _serial=1)
    body = body.replace(b'"_serial": 1', b'"_last-serial": 99')
    assert read(body, size) == ({"foo-bar": 3}, 99)


def test_a_list_without_serials_is_a_list_all_the_same():
    assert read(listed({"name": "foo"})) == ({"foo": 0}, None)


@pytest.mark.parametrize("kept", [10, 100, 0.5, 0.99])
def test_a_list_that_is_cut_off_is_an_error(kept):
    body = listed(*(entry(f"p{number}") for number in range(100)))
    with pytest.raises(PyPIError, match="cut off"):
        read(body[: int(kept * len(body)) if isinstance(kept, float) else kept])


def test_a_list_that_never_ends_an_entry_takes_no_memory():
    pieces = ([b'{"projects": [{"name": "'], *([b"x" * 4096] for _ in range(100)))
    with pytest.raises(PyPIError, match="no end"):
        list(read_list((piece for (piece,) in pieces), "here"))


def test_what_becomes_visible_late_is_heard_and_nothing_is_told_twice(living):
    pypi = PyPI(living.index_url, timeout_s=5)
    feed = Changelog(pypi)
    living.add("foo", "foo-1.tar.gz")
    late = living.log.pop()
    living.add("bar", "bar-1.tar.gz")
    (first,) = feed.listen(None)
    living.log.append(late)
    (second,) = feed.listen(first.serial)
    (third,) = feed.listen(second.serial)
    feed.forget()
    (fourth,) = feed.listen(third.serial)
    pypi.close()

    assert first.serial == second.serial == living.serial
    assert second.changes == {"foo": late[4]}
    assert third.changes == {}
    assert set(fourth.changes) == {"foo", "bar"}


def test_watched_names_are_normal_and_nonsense_is_left_out():
    (heard,) = Watch(["RPi.GPIO", "rpi_gpio", "-", "../x"]).listen(None)
    assert heard.changes == {"rpi-gpio": 0}


FILES = [
    {
        "filename": "foo-1.0.tar.gz",
        "url": "https://host/packages/ab/cd/foo-1.0.tar.gz",
        "hashes": {"sha256": "a" * 64},
        "size": 7,
        "requires-python": ">=3.8",
        "upload-time": "2026-01-02T03:04:05.678Z",
    },
    {
        "filename": "foo-1.0-py3-none-any.whl",
        "url": "https://host/w.whl",
        "hashes": {},
        "yanked": "why\ud800",
    },
    {"filename": "foo-2.0.zip", "url": "https://other/there", "hashes": {}, "yanked": True},
]


def project(*files, **more):
    return read_listing("foo", "https://host/simple/foo/", {"files": list(files), **more})


def test_what_is_stored_comes_back_but_where_wheels_are():
    before = project(*FILES, versions=["1.00", "2.0"])
    after = stored.read("foo", stored.write(before))
    assert [file.url for file in after.files] == [
        "https://host/packages/ab/cd/foo-1.0.tar.gz",
        "",
        "https://other/there",
    ]
    assert [file.tags for file in after.files] == [file.tags for file in before.files]
    assert after.files[1].yanked == before.files[1].yanked
    assert after.files[0].uploaded_at == before.files[0].uploaded_at.replace(microsecond=0)
    assert after.spelling(Version("1.0")) == "1.00"
    assert stored.changed(before, after) == set()
    assert stored.write(after) == stored.write(before)


@pytest.mark.parametrize(
    ("change", "versions"),
    [
        (FILES[:2], {"2.0"}),
        ([], {"1.0", "2.0"}),
        ([FILES[0], {**FILES[1], "yanked": False}, FILES[2]], {"1.0"}),
        ([{**FILES[0], "size": 8}, *FILES[1:]], set()),
        ([{**FILES[0], "requires-python": ">=3.9"}, *FILES[1:]], {"1.0"}),
    ],
)
def test_what_changed_is_found_by_version(change, versions):
    assert stored.changed(project(*FILES), project(*change)) == {Version(one) for one in versions}


@pytest.mark.parametrize("body", [b"\x02abc", b"\x01abc", b"\x01" + zlib.compress(b"[]")])
def test_what_cannot_be_read_is_an_error_that_says_whose(body):
    with pytest.raises(StorageError, match="foo"):
        stored.read("foo", body)


def test_a_project_that_is_gone_has_nothing():
    assert stored.read("foo", None).files == ()
