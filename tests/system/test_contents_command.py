# SPDX-License-Identifier: BSD-3-Clause
"""`master contents` with the real apt, which fetches from a home-made archive on this disk."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="the distribution has no apt")

CONTENTS = {
    "main/Contents-armhf.gz": b"usr/include/arm-linux-gnueabihf/tiny.h  libdevel/libtiny-dev\n",
    "main/Contents-all.gz": b"usr/bin/tinyc  utils/tiny-tools\n",
    "main/binary-amd64/Packages.gz": b"",
}


@pytest.fixture
def archive(tmp_path, own_codename) -> Path:
    """An archive with this machine's release and another one, and the apt that has it as its only source."""
    root = tmp_path / "archive"
    for release in (own_codename, "trixie"):
        directory = root / "dists" / release
        sums = []
        for name, text in CONTENTS.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(gzip.compress(text))
            plain = name.removesuffix(".gz")  # not served, but apt wants its sum
            for path, data in ((name, file.read_bytes()), (plain, text)):
                sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}")
        head = [
            f"Codename: {release}",
            f"Suite: {release}",
            "Components: main",
            "Architectures: all amd64 armhf",
        ]
        head.append(f"Date: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} UTC")
        (directory / "Release").write_text("\n".join([*head, "SHA256:", *sums, ""]))
    sources = tmp_path / "home.list"
    sources.write_text(f"deb [trusted=yes arch=amd64] file:{root} {own_codename} main\n")
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n')
    return config


@pytest.fixture
def own_codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))


def test_a_table_is_made_from_the_archive_that_apt_uses_and_found_in(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("APT_CONFIG", str(archive))
    data = tmp_path / "data"
    data.mkdir()

    def run(*words: str) -> tuple[int, str, str]:
        command = [
            sys.executable,
            "-m",
            "piwheels_node.cli",
            "master",
            "contents",
            *words,
            "--data",
            str(data),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    of_trixie = ("--release", "trixie", "--arch", "armhf")
    code, said, errors = run("update", *of_trixie)
    assert (code, "2 names" in said) == (0, True), errors
    assert "fetching the index of trixie for armhf" in errors

    code, said, _ = run("find", "tiny.h", *of_trixie, "--json")
    assert json.loads(said) == [
        {"kind": "header", "name": "tiny.h", "package": "libtiny-dev", "is_named": True}
    ]
    code, said, _ = run("find", "tinyc", *of_trixie)
    assert (code, "tiny-tools" in said) == (0, True)
    code, _, errors = run("find", "nobody-has-this.h", *of_trixie)
    assert (code, "No package is known" in errors) == (3, True)
    code, said, _ = run("list", "--json")
    assert [one["table"] for one in json.loads(said)] == ["debian13-armhf"]

    assert [path.name for path in (data / "contents").glob("*.db")] == ["debian13-armhf.db"]
    assert not list((data / "contents").glob(".fetched/*"))


def test_an_archive_without_the_index_is_said_and_leaves_nothing(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("APT_CONFIG", str(archive))
    data = tmp_path / "data"
    data.mkdir()
    command = [sys.executable, "-m", "piwheels_node.cli", "master", "contents", "update", "--data", str(data)]
    done = subprocess.run(
        [*command, "--release", "bullseye", "--arch", "armhf"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(("piwheels-node:", "  where:", "  try:"))
    assert not list((data / "contents").glob("*.db"))
