# SPDX-License-Identifier: BSD-3-Clause
"""The hostile corpus: packages that try what they must not, and how the build of each must end.

Each is one sdist, made on the fly by `sdists.make_sdist`: `setup` runs in its build_wheel, `ask` when it is
asked for requirements. `reason` is None where the package does no harm and may well be built. `limits` are
settings of the builder that differ from LIMITS, which are small so that they are met within seconds.

test_corpus.py builds every one, with control groups and without, and compares the host before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from piwheels_node.core.failure import FailureReason as Reason

MIB = 1 << 20

LIMITS: Mapping[str, float] = {
    "timeout_s": 60.0,
    "silence_s": 60.0,
    "log_max_bytes": 1 * MIB,
    "processes": 40,
    "memory_max_bytes": 96 * MIB,
    "memory_bytes": 8 * MIB,
    "tmp_bytes": 32 * MIB,
    "disk_max_bytes": 24 * MIB,
    "wheel_max_bytes": 4 * MIB,
}


@dataclass(frozen=True)
class Hostile:
    """One sdist: its name, what it tries in one line, the code, and the reason that its build ends with."""

    name: str
    tries: str
    reason: Reason | None
    setup: str = ""
    ask: str = ""
    c_extension: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    captured: str | None = None
    logged: tuple[str, ...] = ()
    "What its log must say."
    not_logged: tuple[str, ...] = ()


SLEEP = "import time; time.sleep(600)"

_TIME = (
    Hostile("sleeper", "sleeps for ever, and says nothing", Reason.SILENT, SLEEP, limits={"silence_s": 1.0}),
    Hostile("procrastinator", "sleeps longer than it may", Reason.TIMEOUT, SLEEP, limits={"timeout_s": 1.0}),
    Hostile(
        "dripper",
        "says something now and then, for ever",
        Reason.TIMEOUT,
        "import time\nwhile True: print('.', flush=True); time.sleep(.1)",
        limits={"timeout_s": 1.0, "silence_s": 0.9},
    ),
    Hostile(
        "mute",
        "closes its output, and goes on",
        Reason.SILENT,
        "import os, time; os.close(1); os.close(2); time.sleep(600)",
        limits={"silence_s": 1.0},
    ),
    Hostile(
        "deaf",
        "ignores every signal that it can",
        Reason.TIMEOUT,
        "import signal, time\n"
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "time.sleep(600)",
        limits={"timeout_s": 1.0},
    ),
    Hostile(
        "parent-stopper",
        "stops its parent, so that nobody is left to end",
        Reason.SILENT,
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    while True: os.kill(os.getppid(), signal.SIGSTOP); time.sleep(.1)\n"
        "time.sleep(600)",
        limits={"silence_s": 1.0},
    ),
)

_PROCESSES = (
    Hostile(
        "fork-bomb",
        "forks as fast as it can, in all generations",
        Reason.TOO_MANY_PROCESSES,
        "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(.01)\n",
    ),
    Hostile(
        "fork-bomb-that-fizzles",
        "forks until it may not, and ends of that",
        Reason.TOO_MANY_PROCESSES,
        "import os, signal, time\n"
        "children = []\n"
        "try:\n"
        "    while True:\n"
        "        children.append(os.fork())\n"
        "        if not children[-1]: time.sleep(600)\n"
        "finally:\n"
        "    for child in filter(None, children): os.kill(child, signal.SIGKILL)\n",
    ),
    Hostile(
        "thread-bomb",
        "starts threads as fast as it can",
        Reason.TOO_MANY_PROCESSES,
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n",
    ),
    Hostile(
        "daemon",
        "leaves a process behind, in a session of its own and without a parent",
        None,
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execv(sys.executable, ['python', '-c', 'import time; time.sleep(600)', 'left-behind'])\n"
        "    os._exit(0)\n"
        "time.sleep(.3)\n",
    ),
    Hostile(
        "killer-of-all",
        "ends every process that it may end, its own parents first",
        None,
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    time.sleep(600)\n"
        "for number in (1, os.getppid(), *range(2, 70000), -1):\n"
        "    if number not in (os.getpid(), 0):\n"
        "        try: os.kill(number, signal.SIGKILL)\n"
        "        except OSError: pass\n"
        "print('still there')\n",
        logged=("still there",),
    ),
    Hostile(
        "suicide",
        "lets a child end it, so that nobody answers",
        Reason.UNKNOWN,
        "import os, signal, time\nif os.fork() == 0: os.kill(-1, signal.SIGKILL)\ntime.sleep(600)\n",
    ),
    Hostile(
        "tracer",
        "attaches to every process, those that it can see and those that may run beside its sandbox",
        None,
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    seen = set(map(int, filter(str.isdigit, os.listdir('/proc'))))\n"
        "    held = {number for number in range(1, 70000) if libc.ptrace(0x4206, number, 0, 0) == 0}\n"
        "    print('attached to', sorted(held), 'of', sorted(seen), 'and', len(held - seen), 'others')\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n",
        logged=("of [1, 2, 3] and 0 others",),
    ),
)

_MEMORY = (
    Hostile(
        "hog",
        "takes memory, and more of it",
        Reason.OUT_OF_MEMORY,
        "import time\nheld = []\nwhile True: held.append(bytearray(4 << 20)); time.sleep(.01)",
    ),
    Hostile(
        "herd",
        "takes memory in many children, of which none has much",
        Reason.OUT_OF_MEMORY,
        "import os, time\n"
        "for number in range(24):\n"
        "    if os.fork() == 0: held = bytearray(12 << 20); time.sleep(600)\n"
        "time.sleep(600)\n",
    ),
    Hostile(
        "family",
        "shares 40 MiB with 20 children, which are 40 MiB and no more",
        None,
        "import os, time\n"
        "held = bytearray(40 << 20)\n"
        "for number in range(20):\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "time.sleep(1)\n",
    ),
    Hostile(
        "hoarder",
        "writes to /tmp, /dev/shm and its home, which are all memory",
        Reason.OUT_OF_MEMORY,
        "import time\n"
        "for path in ('/tmp/big', '/dev/shm/big', '/home/builder/big'):\n"
        "    with open(path, 'wb') as file:\n"
        "        for number in range(60): file.write(bytes(1 << 20)); time.sleep(.005)\n"
        "time.sleep(600)\n",
        limits={"tmp_bytes": 64 * MIB, "disk_max_bytes": 512 * MIB},
    ),
    Hostile(
        "hoarder-of-nothing",
        "makes empty files in /tmp, each of which takes some of the kernel's memory",
        Reason.OUT_OF_MEMORY,
        "import os\nfor number in range(400000): os.close(os.open(f'/tmp/{number}', os.O_CREAT))",
        limits={"memory_max_bytes": 40 * MIB},
    ),
    Hostile(
        "sharer",
        "takes memory that is shared between processes",
        Reason.OUT_OF_MEMORY,
        "import mmap, time\n"
        "held = mmap.mmap(-1, 160 << 20)\n"
        "for at in range(0, len(held), 4096): held[at] = 1\n"
        "time.sleep(600)\n",
    ),
    Hostile(
        "nameless-memory",
        "fills a file in memory that has no name and is not mapped",
        Reason.OUT_OF_MEMORY,
        "import os, time\n"
        "held = os.memfd_create('held')\n"
        "for number in range(160): os.write(held, bytes(1 << 20))\n"
        "time.sleep(600)\n",
        limits={"disk_max_bytes": 512 * MIB},
    ),
    Hostile(
        "survivor",
        "lets a child run out of memory, and blames a header",
        Reason.OUT_OF_MEMORY,
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    held = []\n"
        "    while True: held.append(bytearray(4 << 20)); time.sleep(.01)\n"
        "os.wait()\n"
        "raise SystemExit('x.c:1:10: fatal error: x.h: No such file or directory')\n",
    ),
)

_DISK = (
    Hostile(
        "filler",
        "fills the disk with one file",
        Reason.OUT_OF_DISK,
        "file = open('big', 'wb')\nwhile True: file.write(bytes(1 << 20))",
    ),
    Hostile(
        "filler-with-many",
        "fills the disk with many small files",
        Reason.OUT_OF_DISK,
        "import itertools\n"
        "for number in itertools.count():\n"
        "    with open(f'{number}', 'wb') as file: file.write(b'x')\n",
    ),
    Hostile(
        "filler-with-nothing",
        "fills the disk with empty directories",
        Reason.OUT_OF_DISK,
        "import itertools, os\nfor number in itertools.count(): os.mkdir(f'{number}')",
        limits={"disk_max_bytes": 4 * MIB, "memory_bytes": 0, "memory_max_bytes": 512 * MIB},
    ),
    Hostile(
        "filler-without-a-name",
        "fills the disk with files that were removed while they are open",
        Reason.OUT_OF_DISK,
        "import os, time\n"
        "held = []\n"
        "for number in range(60):\n"
        "    held.append(open('big', 'wb')); os.unlink('big')\n"
        "    held[-1].write(bytes(1 << 20)); time.sleep(.01)\n"
        "time.sleep(600)\n",
    ),
    Hostile(
        "digger",
        "hides what it writes in directories deeper than a path can say",
        Reason.OUT_OF_DISK,
        "import os, time\n"
        "for number in range(1000): os.mkdir('deep'); os.chdir('deep')\n"
        "open('hidden', 'wb').write(bytes(1 << 20))\n"
        "time.sleep(600)\n",
        limits={"memory_bytes": 0},
    ),
    Hostile(
        "tmp-filler",
        "writes more to /tmp than fits",
        Reason.OUT_OF_DISK,
        "open('/tmp/big', 'wb').write(bytes(40 << 20))",
    ),
    Hostile(
        "giant",
        "writes one file larger than any may be",
        Reason.OUT_OF_DISK,
        "open('big', 'wb').truncate(1 << 40)",
    ),
    Hostile(
        "stubborn",
        "leaves directories that nobody may enter, names that are no text, and a tree that is very deep",
        None,
        "import os\n"
        "os.makedirs('a/b/c'); os.chmod('a/b', 0); os.chmod('a', 0)\n"
        "open(b'\\xff\\xfe\\n', 'w'); os.symlink('/', 'root'); os.mkfifo('pipe')\n"
        "here = os.getcwd()\n"
        "for number in range(1500): os.mkdir('d'); os.chdir('d')\n"
        "os.chdir(here)\n",
    ),
)

_OUTPUT = (
    Hostile(
        "chatterbox",
        "prints for ever",
        Reason.LOG_TOO_BIG,
        "while True: print('x' * 65536)",
    ),
    Hostile(
        "endless-line",
        "prints one line that never ends",
        Reason.LOG_TOO_BIG,
        "import sys\nwhile True: sys.stdout.write('y' * 65536)",
    ),
    Hostile(
        "painter",
        "writes control characters of a terminal, lines of 1 MB, and bytes that are no text",
        Reason.MISSING_HEADER,
        "import sys\n"
        "out = sys.stdout.buffer\n"
        "out.write(b'\\x1b]0;owned\\x07\\x1b[2J\\x1b[31m' + b'z' * (1 << 20) + b'\\n\\xff\\xfe\\x00\\n')\n"
        "out.write(b'\\x1b[1mx.c:1:10:\\x1b[0m \\x1b[31mfatal error:\\x1b[0m evil.h: No such')\n"
        "out.write(b' file or directory\\n')\n"
        "out.flush(); sys.exit(1)\n",
        limits={"log_max_bytes": 4 * MIB},
        captured="evil.h",
    ),
    Hostile("questioner", "asks at the terminal", Reason.NEEDS_INPUT, "input('Continue? ')"),
    Hostile(
        "questioner-by-tty",
        "asks for a password at the terminal itself",
        Reason.NEEDS_INPUT,
        "import getpass; getpass.getpass()",
    ),
    Hostile(
        "greedy",
        "asks for new requirements for ever",
        Reason.BAD_METADATA,
        ask="import time; requires.append(f'x{time.time_ns()}; python_version < \"3\"')",
    ),
    Hostile(
        "babbler",
        "answers in our name, with nonsense",
        Reason.BAD_METADATA,
        "import atexit\natexit.register(lambda: open('/build/answer.json', 'w').write('[' * 10000))\n",
    ),
    Hostile(
        "answer-directory",
        "makes a directory of the answer, with something in it",
        Reason.BAD_METADATA,
        "import atexit, os\n"
        "def replace():\n"
        "    os.unlink('/build/answer.json'); os.makedirs('/build/answer.json/x')\n"
        "atexit.register(replace)\n",
    ),
    Hostile(
        "usage-directory",
        "makes directories where the builder will write again",
        None,
        "import atexit, os\n"
        "def replace():\n"
        "    os.unlink('/build/usage.json'); os.makedirs('/build/usage.json/x/y')\n"
        "atexit.register(replace)\n",
        c_extension=True,
    ),
    Hostile(
        "answer-first",
        "makes a directory of the answer before there is one",
        Reason.BAD_METADATA,
        "import os; os.makedirs('/build/answer.json/x')",
    ),
)

_WHEEL = (
    Hostile(
        "impostor",
        "builds a wheel named for another project",
        Reason.WHEEL_WRONG_NAME,
        "config['name'] = 'victim'",
    ),
    Hostile(
        "time-traveller",
        "builds a wheel of another version",
        Reason.WHEEL_WRONG_NAME,
        "config['version'] = '2.0'",
    ),
    Hostile(
        "foreigner",
        "builds a wheel for another platform",
        Reason.WHEEL_WRONG_ARCH,
        "config['tag'] = 'cp27-cp27m-win32'",
    ),
    Hostile(
        "climber",
        "names a wheel outside the directory for it",
        Reason.WHEEL_INVALID,
        "config['filename'] = '../escaped-1.0-py3-none-any.whl'",
    ),
    Hostile(
        "breaker",
        "writes its wheel outside the room",
        Reason.SANDBOX_DENIED,
        "config['filename'] = '../../escaped-1.0-py3-none-any.whl'",
    ),
    Hostile(
        "zip-bomb",
        "builds a wheel that unpacks to far more than it is",
        Reason.WHEEL_TOO_BIG,
        "import zipfile\n"
        "def bomb(path, members):\n"
        "    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:\n"
        "        for name, content in {'zeros': bytes(18 << 20), **members}.items():\n"
        "            archive.writestr(name, content)\n"
        "import sys; sys.modules['tinybuild']._write = bomb\n",
    ),
    Hostile(
        "whale",
        "builds a wheel larger than it may be",
        Reason.WHEEL_TOO_BIG,
        "import os\nopen('src/large.bin', 'wb').write(os.urandom(5 << 20))",
    ),
    Hostile(
        "hard-linker",
        "gives its wheel a second name, to change it after it was looked at",
        Reason.WHEEL_INVALID,
        "import atexit, os, glob\n"
        "atexit.register(lambda: os.link(glob.glob('/build/out/*.whl')[0], '/build/src/other'))\n",
    ),
    Hostile(
        "symlinker",
        "puts a link to a file of the host in place of its wheel",
        Reason.WHEEL_INVALID,
        "import atexit, os, glob\n"
        "def replace():\n"
        "    path = glob.glob('/build/out/*.whl')[0]\n"
        "    os.unlink(path); os.symlink('/etc/passwd', path)\n"
        "atexit.register(replace)\n",
    ),
    Hostile(
        "plumber",
        "puts a pipe in place of its wheel, which nobody ever writes to",
        Reason.WHEEL_INVALID,
        "import atexit, os, glob\n"
        "def replace():\n"
        "    path = glob.glob('/build/out/*.whl')[0]\n"
        "    os.unlink(path); os.mkfifo(path)\n"
        "atexit.register(replace)\n",
    ),
    Hostile(
        "diverter",
        "puts a link in place of the directory for its wheel",
        Reason.WHEEL_INVALID,
        "import atexit, os, shutil\n"
        "def divert():\n"
        "    shutil.move('/build/out', '/build/elsewhere'); os.symlink('/build/elsewhere', '/build/out')\n"
        "atexit.register(divert)\n",
    ),
)

_PLACES = (
    Hostile(
        "snooper",
        "reads what /proc tells of the host",
        None,
        "import os, pathlib\n"
        "print('sees', sorted(name for name in os.listdir('/proc') if name.isdigit()))\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*/environ'): print(path.read_bytes())\n"
        "for name in ('kcore', 'sysrq-trigger', 'sys/kernel/core_pattern', 'sys/vm/drop_caches'):\n"
        "    try: open(f'/proc/{name}', 'r+b'); print('OPENED', name)\n"
        "    except OSError as error: print(name, error.errno)\n",
        logged=("sees ['1', '2']",),
        not_logged=("OPENED", "SECRET_OF_THE_BUILDER"),
    ),
    Hostile(
        "path-writer",
        "writes a .pth file into the environment that other builds share",
        Reason.SANDBOX_DENIED,
        "import sysconfig\nopen(sysconfig.get_path('purelib') + '/evil.pth', 'w').write('import os')",
    ),
    Hostile(
        "path-writer-at-home",
        "writes a .pth file where Python looks for those of the user",
        None,
        "import os, site\n"
        "assert not os.listdir(os.path.expanduser('~')), 'somebody was here before'\n"
        "os.makedirs(site.getusersitepackages())\n"
        "open(site.getusersitepackages() + '/evil.pth', 'w').write('import os; os.write(1, b\"owned\")')\n",
        not_logged=("owned",),
        c_extension=True,
    ),
    Hostile(
        "compiler-replacer",
        "puts another compiler into /usr/bin",
        Reason.SANDBOX_DENIED,
        "import os; os.rename('/usr/bin/cc', '/usr/bin/cc.true')",
    ),
    Hostile(
        "path-replacer",
        "puts another compiler before the true one in PATH",
        None,
        "import os\n"
        "os.makedirs('/tmp/bin')\n"
        "open('/tmp/bin/cc', 'w').write('#!/bin/sh\\necho fake >&2; exec /usr/bin/cc \"$@\"\\n')\n"
        "os.chmod('/tmp/bin/cc', 0o755)\n"
        "os.environ['PATH'] = '/tmp/bin:' + os.environ['PATH']\n",
        c_extension=True,
        logged=("fake",),
    ),
    Hostile(
        "remounter",
        "wants to be root in namespaces of its own, and to mount the host's disk",
        None,
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print('unshare', libc.unshare(0x10000000), ctypes.get_errno())\n"
        "print('mount', libc.mount(b'none', b'/mnt', b'tmpfs', 0, None), ctypes.get_errno())\n"
        "print('remount', libc.mount(None, b'/usr', None, 0x1020, None), ctypes.get_errno())\n",
        logged=("unshare -1", "mount -1", "remount -1"),
    ),
    Hostile(
        "burglar",
        "writes to a directory of the host",
        Reason.SANDBOX_DENIED,
        "open('/var/lib/evil', 'w').write('evil')",
        captured="/var/lib/evil",
    ),
    Hostile(
        "talker",
        "talks to the world",
        Reason.NEEDS_NETWORK,
        "import socket; socket.create_connection(('192.0.2.1', 80), 5)",
    ),
    Hostile(
        "unlimited",
        "raises its own limits, and lets itself be ended last",
        Reason.TOO_MANY_PROCESSES,
        "import os, resource, time\n"
        "for name in ('NPROC', 'FSIZE'):\n"
        "    try: resource.setrlimit(getattr(resource, f'RLIMIT_{name}'), (resource.RLIM_INFINITY,) * 2)\n"
        "    except (OSError, ValueError) as error: print(name, error)\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: time.sleep(.01)\n",
    ),
)

CORPUS: tuple[Hostile, ...] = (*_TIME, *_PROCESSES, *_MEMORY, *_DISK, *_OUTPUT, *_WHEEL, *_PLACES)
