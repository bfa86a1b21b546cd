# SPDX-License-Identifier: BSD-3-Clause
"""A master's own certificate: the whole machine believes it after `pip enable`, and no more after `disable`.

The machine's certificates are copies in a mount namespace, made anew by Debian's own program.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from piwheels_node.master.running.certificate import make_certificate

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/update-ca-certificates").exists() or not Path("/etc/ssl/certs").is_dir(),
    reason="no ca-certificates of Debian's",
)


class Empty(http.server.BaseHTTPRequestHandler):
    """An index without any project."""

    def do_GET(self):
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nobody reads it."""


@pytest.fixture
def index(tmp_path):
    """An index over HTTPS with a certificate of its own; gives its URL, and the certificate's file."""
    certificate, key = make_certificate(["localhost"], datetime.now(UTC))
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(certificate)
    files[1].write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/simple/", files[0]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def node(tmp_path):
    """Our command on a machine with a few of the certificates of this one."""
    etc, share, home = tmp_path / "etc", tmp_path / "share", tmp_path / "home"
    for directory in (etc / "ssl" / "certs", share / "ca-certificates", home):
        directory.mkdir(parents=True)
    listed = [
        line for line in Path("/etc/ca-certificates.conf").read_text().splitlines() if line[:1] not in "#!"
    ]
    (etc / "ca-certificates.conf").write_text("\n".join(listed[:3]) + "\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    if Path("/etc/ssl/openssl.cnf").exists():
        shutil.copy("/etc/ssl/openssl.cnf", etc / "ssl")
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    confined = ["bwrap", "--dev-bind", "/", "/", "--bind", etc, "/etc", "--bind", share, "/usr/local/share"]

    def node(*words):
        return subprocess.run(
            [*confined, "--die-with-parent", "--", *words],
            env={**kept, "HOME": str(home), "PIWHEELS_NODE_SETTINGS": os.devnull},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=home,
        )

    made = node("/usr/sbin/update-ca-certificates")
    assert made.returncode == 0, made.stderr
    node.etc, node.share = etc, share
    return node


def files(*roots):
    return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def severity(node, url):
    """What the doctor says of the certificate."""
    done = node(sys.executable, "-m", "piwheels_node.cli", "doctor", "--json", "--index", url)
    told = {one["check"]: one["severity"] for one in json.loads(done.stdout)}
    return told["certificate"]


def test_the_machine_believes_it_until_it_is_taken_back(node, index):
    url, certificate = index
    command = [sys.executable, "-m", "piwheels_node.cli", "pip"]
    before = files(node.etc, node.share)

    assert severity(node, url) == "problem"
    done = node(*command, "enable", "--index", url, "--certificate", str(certificate))
    assert done.returncode == 0, done.stderr
    assert severity(node, url) == "ok"
    assert "native-tls = true" in (node.etc / "uv" / "uv.toml").read_text()
    done = node(*command, "disable")
    assert done.returncode == 0, done.stderr
    assert severity(node, url) == "problem"
    assert files(node.etc, node.share) == before
