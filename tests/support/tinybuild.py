# SPDX-License-Identifier: BSD-3-Clause
"""A PEP 517 backend of one file, for the packages that the tests make: `sdists.make_sdist` copies it.

It reads `[tool.tinybuild]` of pyproject.toml (name, version, and where wanted requires_python,
install_requires, c_module, tag), packs `src/`, compiles `src/C_MODULE.c` with cc, and gives the same bytes
for the same SOURCE_DATE_EPOCH. First it runs `tiny_setup.py`, the part of a package that misbehaves: that
may change `config`. It needs nothing but the standard library.
"""

import base64
import hashlib
import os
import struct
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):
    """What `tiny_ask.py` leaves in `requires`."""
    return _run("tiny_ask.py", config=_config(), requires=[])["requires"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Write the wheel and return its file name."""
    config = _config()
    _run("tiny_setup.py", config=config, wheel_directory=wheel_directory)
    sources = [path for path in sorted(Path("src").rglob("*")) if path.is_file() and path.suffix != ".c"]
    members = {path.relative_to("src").as_posix(): path.read_bytes() for path in sources}
    tag = "py3-none-any"
    if module := config.get("c_module"):
        members[module + sysconfig.get_config_var("EXT_SUFFIX")] = _compile(Path("src", f"{module}.c"))
        python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        tag = f"{python}-{python}{getattr(sys, 'abiflags', '')}-{_platform()}"
    tag = config.get("tag", tag)
    stem = f"{config['name'].lower().replace('-', '_').replace('.', '_')}-{config['version']}"
    members[f"{stem}.dist-info/METADATA"] = _metadata(config)
    pure = str(tag.endswith("-any")).lower()
    wheel = f"Wheel-Version: 1.0\nGenerator: tinybuild\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    members[f"{stem}.dist-info/WHEEL"] = wheel.encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in members.items()]
    members[f"{stem}.dist-info/RECORD"] = "".join([*record, f"{stem}.dist-info/RECORD,,\n"]).encode()
    filename = config.get("filename", f"{stem}-{tag}.whl")
    _write(Path(wheel_directory, filename), members)
    return filename


def _config():
    return tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["tinybuild"]


def _run(script, **names):
    if Path(script).exists():
        exec(compile(Path(script).read_text(encoding="utf-8"), script, "exec"), names)
    return names


def _metadata(config):
    lines = ["Metadata-Version: 2.1", f"Name: {config['name']}", f"Version: {config['version']}"]
    if "requires_python" in config:
        lines.append(f"Requires-Python: {config['requires_python']}")
    lines += [f"Requires-Dist: {requirement}" for requirement in config.get("install_requires", [])]
    return "\n".join([*lines, ""]).encode()


def _compile(source):
    made = Path("build", source.stem + ".so")
    made.parent.mkdir(exist_ok=True)
    include = f"-I{sysconfig.get_path('include')}"
    command = ["cc", "-shared", "-fPIC", include, str(source), "-o", str(made)]
    print("building extension:", *command, flush=True)  # noqa: T201 - what a build prints is its log
    subprocess.run(command, check=True)
    return made.read_bytes()


def _platform():
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if struct.calcsize("P") == 4:  # a 32-bit Python on a 64-bit kernel
        platform = {"linux_x86_64": "linux_i686", "linux_aarch64": "linux_armv7l"}.get(platform, platform)
    return platform


def _digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _write(path, members):
    moment = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), 315532800))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, moment)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
