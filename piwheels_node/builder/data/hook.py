# SPDX-License-Identifier: BSD-3-Clause
"""What runs inside the sandbox: the backend of a package (PEP 517), or its finished extensions.

This file is bound into the sandbox and run by the target's Python, which has nothing of ours installed:
it imports the standard library only, and works on every Python that is built for. One process asks the
backend for its further requirements and, where they are all there, builds at once: starting Python and
importing the backend a second time is a third of the time of a pure package.

    hook.py build   {"backend", "backend_path", "provided", "limits"}  -> {"requires"} or {"wheel"}
    hook.py load    {"directory", "extensions", "limits"}               -> {"failed": {path: error}}

The request is the second argument, the answer is written to /build/answer.json, and what it cost to
/build/usage.json. What the package prints goes to the log, and so does the traceback of what it raises.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs 5 ms, which is a twentieth of a small build
    from typing import Any

SOURCE = "/build/src"
OUT = "/build/out"
ANSWER = "/build/answer.json"
USAGE = "/build/usage.json"
ONLY_FOR_AN_EXTRA = re.compile(r";\s*extra\s*==\s*([\"'])[^\"']+\1\s*$")
"""flit_core asks for what the package's extras require; a second run for nothing doubles a small build."""


def main() -> None:
    """Do what the arguments ask for; the exit code is 0 where there is an answer."""
    leave_if_orphaned()
    request = json.loads(sys.argv[2])
    set_limits(request["limits"])
    action = {"build": build, "load": load}[sys.argv[1]]
    try:
        write(ANSWER, action(request))
    finally:
        write(USAGE, usage())


def leave_if_orphaned() -> None:
    """End where the builder was killed while bubblewrap was on its way here, and nobody reads our output.

    `--die-with-parent` binds the sandbox's first process only when all is mounted, some 10 ms later.
    """
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in watch.poll(0)):
        sys.exit("the builder is gone")


def write(path: str, content: dict[str, Any]) -> None:
    """Write a file that was not there before; what package code has put there speaks for itself."""
    try:
        with open(path, "x") as file:
            json.dump(content, file)
    except FileExistsError:
        sys.stderr.write(f"{path} was there already\n")


def usage() -> dict[str, Any]:
    """What this process and all it waited for have used: processor, memory of the largest, disk (proc(5))."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with contextlib.suppress(OSError), open("/proc/self/io") as file:
        counted = dict(line.split(": ") for line in file)
        written = int(counted["write_bytes"]) - int(counted["cancelled_write_bytes"])
        return {**_times(used), "written_bytes": max(0, written)}
    return _times(used)


def _times(used: list[resource.struct_rusage]) -> dict[str, Any]:
    return {
        "cpu_s": sum(one.ru_utime + one.ru_stime for one in used),
        "peak_memory_bytes": max(one.ru_maxrss for one in used) * 1024,
    }


def set_limits(limits: dict[str, int]) -> None:
    """Limit this process and all that it starts. In here, since processes are counted per user namespace."""
    for name, value in (("NPROC", limits["processes"]), ("FSIZE", limits["file_bytes"]), ("CORE", 0)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    os.nice(limits["nice"])


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Ask for further requirements, and build where none is missing."""
    started = time.monotonic()
    os.chdir(SOURCE)
    paths = [os.path.normpath(os.path.join(SOURCE, path)) for path in request["backend_path"]]
    sys.path[:0] = paths
    module, _, attributes = request["backend"].partition(":")
    backend = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        backend = getattr(backend, attribute)
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    requires = [str(one) for one in (ask({}) if ask else []) if not ONLY_FOR_AN_EXTRA.search(str(one))]
    asked_s = time.monotonic() - started
    if set(requires) - set(request["provided"]):
        return {"requires": requires, "asked_s": asked_s}
    return {"wheel": backend.build_wheel(OUT, {}), "asked_s": asked_s}


def load(request: dict[str, Any]) -> dict[str, Any]:
    """Load every extension as the interpreter's import would, and tell which could not be."""
    import ctypes  # noqa: PLC0415 - only here: most builds have nothing to load

    failed = {}
    for path in request["extensions"]:
        try:
            ctypes.CDLL(os.path.join("/build", request["directory"], path), os.RTLD_NOW)
        except OSError as error:
            failed[path] = str(error)
            sys.stderr.write(f"{path}: {error}\n")
    return {"failed": failed}


if __name__ == "__main__":
    main()
