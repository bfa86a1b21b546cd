# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: RUF001 - gcc's quotation marks
"""The reason of a failure, from logs as tools write them; every rule against its own example."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piwheels_node.builder.diagnosis import Diagnosis, Rule, all_rules, diagnose, plain
from piwheels_node.core.failure import FailureReason

RULES = all_rules().rules


def why(log: str | bytes) -> Diagnosis:
    return diagnose([log.encode() if isinstance(log, str) else log])


def short(rule: Rule) -> str:
    return f"{RULES.index(rule)}-{rule.reason}"


def takes(rule: Rule, line: str) -> bool:
    """True where the rule alone would take the line, wherever it stands."""
    return any(word.decode() in line for word in rule.needs) and bool(rule.pattern.search(line))


# --- the rules ---


@pytest.mark.parametrize("rule", RULES, ids=short)
def test_a_rule_takes_its_own_example_and_no_earlier_rule_does(rule):
    context = (
        '  File "/usr/lib/python3.13/subprocess.py", line 1974, in _execute_child\n' if rule.after else ""
    )

    found = why(f"{context}{rule.example}\n")

    assert found.reason is rule.reason
    assert found.evidence == rule.example.strip()
    earlier = [short(one) for one in RULES[: RULES.index(rule)] if takes(one, rule.example) and not one.after]
    assert earlier == []


@pytest.mark.parametrize("rule", RULES, ids=short)
def test_a_rule_captures_one_name_or_none(rule):
    match = rule.pattern.search(rule.example)

    assert match
    assert len([group for group in match.groups() if group]) <= 1
    assert not rule.pattern.groupindex


@pytest.mark.parametrize("rule", RULES, ids=short)
def test_every_word_that_a_rule_needs_is_a_word_that_its_pattern_could_take(rule):
    assert all(word for word in rule.needs)
    assert any(word.decode() in rule.example for word in rule.needs)


@pytest.mark.parametrize("rule", RULES, ids=short)
def test_no_line_keeps_a_rule_busy(rule):
    """Lines made to make patterns go back and forth: words of the example, again and again, and cut."""
    words = [*re.findall(r"\S+", rule.example), *(word.decode() for word in rule.needs)]
    lines = [(word * 4096)[:4095] + "!" for word in words]
    lines += [((word + " ") * 4096)[:4095] + "!" for word in words]
    lines += [(rule.example[:-1] * 200)[:4096], "a" * 4096, " " * 4096, "a:1:" * 1024, "'/" * 2048]

    started = time.process_time()
    for line in lines:
        rule.pattern.search(line)
        all_rules().ignores(line)

    assert (time.process_time() - started) / len(lines) < 0.02


def test_what_a_log_cannot_tell_has_no_rule():
    untold = {"timeout", "silent", "log-too-big", "hash-mismatch", "builder-lost", "unknown", "wheel-invalid"}

    assert untold.isdisjoint(rule.reason.value for rule in RULES)


# --- logs ---

PYCUPS = """\
running build_ext
building 'cups' extension
gcc -pthread -fPIC -DVERSION="2.0.4" -I/usr/include/python3.11 -c cupsmodule.c -o build/cupsmodule.o
In file included from cupsmodule.c:26:
cupsmodule.h:33:10: fatal error: cups/http.h: No such file or directory
   33 | #include <cups/http.h>
      |          ^~~~~~~~~~~~~
compilation terminated.
error: command '/usr/bin/gcc' failed with exit code 1
"""


def test_a_missing_header_explains_what_the_compiler_says_after_it():
    found = why(PYCUPS)

    assert found == Diagnosis(
        FailureReason.MISSING_HEADER,
        captured="cups/http.h",
        evidence="cupsmodule.h:33:10: fatal error: cups/http.h: No such file or directory",
        evidence_line=5,
    )


def test_the_same_log_is_read_the_same_from_a_file_and_in_pieces_of_any_size(tmp_path):
    path = tmp_path / "log"
    path.write_text(PYCUPS)
    content = PYCUPS.encode()

    assert diagnose(path) == why(PYCUPS)
    for size in (1, 7, 64):
        assert diagnose(content[at : at + size] for at in range(0, len(content), size)) == why(PYCUPS)


def traceback(last: str, *, subprocess: bool = False) -> str:
    lines = ["Traceback (most recent call last):", '  File "/build/src/setup.py", line 12, in <module>']
    if subprocess:
        lines += [
            '  File "/usr/lib/python3.13/subprocess.py", line 1974, in _execute_child',
            "    raise child",
        ]
    return "\n".join([*lines, last, ""])


@pytest.mark.parametrize(
    ("log", "reason", "captured"),
    [
        ("x.c:1:2: fatal error: 'ffi.h' file not found\n", "missing-header", "ffi.h"),
        ("x.c:1:2: error: ffi.h: No such file or directory\n", "missing-header", "ffi.h"),
        (
            "src/a b.c\nx.c:3:10: fatal error: Python.h: No such file or directory\n",
            "missing-header",
            "Python.h",
        ),
        (
            "/usr/bin/ld: cannot find -lpq\ncollect2: error: ld returned 1 exit status\n",
            "missing-library",
            "pq",
        ),
        ("ld.lld: error: unable to find library -lz\n", "missing-library", "z"),
        ("error: could not find native static library `ssl`\n", "missing-library", "ssl"),
        ("No package 'cairo' found\n", "missing-pkg-config", "cairo"),
        ("Package cairo was not found in the pkg-config search path.\n", "missing-pkg-config", "cairo"),
        (
            "configure: error: Package requirements (glib-2.0 >= 2.36) were not met:\n",
            "missing-pkg-config",
            "glib-2.0",
        ),
        (
            'meson.build:9:7: ERROR: Dependency "cairo" not found, tried pkgconfig\n',
            "missing-pkg-config",
            "cairo",
        ),
        (
            "  The system library `libudev` required by crate `udev` was not found.\n",
            "missing-pkg-config",
            "libudev",
        ),
        ("/bin/sh: 1: cmake: not found\n", "missing-tool", "cmake"),
        ("./configure: line 3000: bison: command not found\n", "missing-tool", "bison"),
        ("make[1]: flex: No such file or directory\n", "missing-tool", "flex"),
        ("unable to execute 'gcc': No such file or directory\n", "missing-tool", "gcc"),
        ("error: command 'swig' failed: No such file or directory\n", "missing-tool", "swig"),
        ("Error: pg_config executable not found.\n", "missing-tool", "pg_config"),
        ("/usr/bin/env: ‘perl’: No such file or directory\n", "missing-tool", "perl"),
        ("/bin/sh: 1: pkg-config: not found\nNo package 'x' found\n", "missing-tool", "pkg-config"),
        ("meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc']]\n", "missing-tool", "cc"),
        ("error: can't find Rust compiler\n", "missing-tool", "rustc"),
        ("a.c:1:1: error: unknown type name ‘uint’\n", "compiler-error", None),
        ("error[E0432]: unresolved import `std::sync::x`\n", "compiler-error", None),
        ("cc1: fatal error: src/lost.c: No such file or directory\n", "compiler-error", None),
        ("error: feature `edition2024` is required\n", "rust-too-old", None),
        ("curl: (6) Could not resolve host: example.org\n", "needs-network", "example.org"),
        ("  [Errno 101] Network is unreachable\n", "needs-network", None),
        ("x: [Errno -2] Name or service not known\n", "needs-network", None),
        ("spurious network error: dns error: failed to lookup\n", "needs-network", None),
        ('status_string: "Couldn\'t resolve host name"\n', "needs-network", None),
        (traceback("EOFError: EOF when reading a line"), "needs-input", None),
        (traceback("OSError: [Errno 30] Read-only file system: '/etc/x'"), "sandbox-denied", "/etc/x"),
        (traceback("PermissionError: [Errno 13] Permission denied: '/usr/x'"), "sandbox-denied", "/usr/x"),
        (
            traceback("FileNotFoundError: [Errno 2] No such file or directory: '/var/lib/x'"),
            "sandbox-denied",
            "/var/lib/x",
        ),
        ("cp: cannot create regular file '/opt/x': Permission denied\n", "sandbox-denied", "/opt/x"),
        (traceback("ModuleNotFoundError: No module named 'numpy'"), "missing-module", "numpy"),
        (
            traceback("ModuleNotFoundError: No module named 'a.b'; 'a' is not a package"),
            "missing-module",
            "a.b",
        ),
        (traceback("ModuleNotFoundError: No module named '_winreg'"), "wrong-platform", "_winreg"),
        (traceback("NotImplementedError: fast is only supported on macOS."), "wrong-platform", None),
        ("a.c:1:10: fatal error: immintrin.h: No such file or directory\n", "wrong-platform", "immintrin.h"),
        (
            "a.c:1:10: fatal error: cuda_runtime.h: No such file or directory\n",
            "wrong-platform",
            "cuda_runtime.h",
        ),
        (
            traceback("FileNotFoundError: [Errno 2] No such file or directory: 'nvcc'", subprocess=True),
            "wrong-platform",
            None,
        ),
        ("gcc: error: unrecognized command-line option ‘-mavx2’\n", "wrong-platform", "-mavx2"),
        ("cc1plus: out of memory allocating 1 bytes\n", "out-of-memory", None),
        ("virtual memory exhausted: Cannot allocate memory\n", "out-of-memory", None),
        ("c++: fatal error: Killed signal terminated program cc1plus\n", "out-of-memory", None),
        ("make: *** [Makefile:3: x.o] Killed\n", "out-of-memory", None),
        (traceback("MemoryError"), "out-of-memory", None),
        (traceback("numpy.core._exceptions._ArrayMemoryError: Unable to allocate"), "out-of-memory", None),
        ("OSError: [Errno 28] No space left on device\n", "out-of-disk", None),
        ("Illegal instruction\n", "illegal-instruction", None),
        ("/bin/sh: line 1:   42 Illegal instruction     (core dumped) ./gen\n", "illegal-instruction", None),
        (
            traceback("SyntaxError: Missing parentheses in call to 'print'. Did you mean"),
            "requires-python",
            None,
        ),
        ("error in thing setup command: use_2to3 is invalid.\n", "bad-metadata", None),
        ("error: invalid command 'bdist_wheel'\n", "missing-module", "wheel"),
        ("", "unknown", None),
        ("everything is fine\n", "unknown", None),
        ("\0\xff\xfe\n", "unknown", None),
    ],
)
def test_what_tools_say_has_its_reason(log, reason, captured):
    found = why(log)

    assert (found.reason.value, found.captured) == (reason, captured)


def test_a_program_that_python_cannot_start_is_a_missing_tool_but_a_file_is_not():
    last = "FileNotFoundError: [Errno 2] No such file or directory: 'cmake'"

    tool, file = why(traceback(last, subprocess=True)), why(traceback(last))

    assert (tool.reason, tool.captured) == (FailureReason.MISSING_TOOL, "cmake")
    assert (file.reason, file.captured) == (FailureReason.BAD_METADATA, "cmake")


def test_the_traceback_may_begin_in_another_piece_of_the_log():
    log = (
        "x" * 3000
        + "\n"
        + traceback("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", subprocess=True)
    )
    content = log.encode()

    assert diagnose(content[at : at + 100] for at in range(0, len(content), 100)).captured == "cmake"


def test_of_tracebacks_that_chain_the_last_one_counts():
    log = (
        traceback("ModuleNotFoundError: No module named 'tomllib'")
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + traceback("ModuleNotFoundError: No module named 'tomli'")
    )

    assert why(log).captured == "tomli"
    assert diagnose(line.encode() for line in log.splitlines(keepends=True)).captured == "tomli"


def test_of_headers_the_first_one_counts():
    log = PYCUPS + PYCUPS.replace("cups/http.h", "other.h")

    assert why(log).captured == "cups/http.h"


def test_a_reason_that_comes_first_in_the_rules_wins_wherever_it_stands():
    network = "socket.gaierror: [Errno -3] Temporary failure in name resolution\n"

    assert why(PYCUPS + network).reason is FailureReason.NEEDS_NETWORK
    assert why(network + PYCUPS).reason is FailureReason.NEEDS_NETWORK
    assert diagnose([PYCUPS.encode(), network.encode()]).reason is FailureReason.NEEDS_NETWORK


@pytest.mark.parametrize(
    "probe",
    [
        "checking for cups/http.h... no",
        "checking for x: x.c:1:10: fatal error: y.h: No such file or directory",
        "conftest.c:9:10: fatal error: ffi.h: No such file or directory",
        "_configtest.c:1:10: fatal error: cblas.h: No such file or directory",
        "/tmp/tmpabc123/test.c:1:10: fatal error: omp.h: No such file or directory",
        "-- Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)",
        "Run-time dependency cairo found: NO (tried pkgconfig and cmake)",
        "Program cython found: NO",
        "/bin/sh: 1: git: not found",
        "fatal: not a git repository (or any of the parent directories): .git",
        "/usr/bin/ld: cannot find -lcmTC_1a2b3c",
        "warning: no previously-included files matching '*.pyc' found",
        "warning: no files found matching 'No such file or directory'",
        "a.c:1:1: warning: ‘x’ is deprecated [-Wdeprecated-declarations]",
        "note: this also works on Windows and macOS, and only on Windows without a driver.",
        "creating build/lib/thing/MemoryError.py",
        "    raise EOFError('EOF when reading a line')",
    ],
)
def test_a_question_is_no_failure(probe):
    assert why(f"{probe}\n").reason is FailureReason.UNKNOWN
    assert why(f"{probe}\n{PYCUPS}").captured == "cups/http.h"


def test_colours_are_seen_through_and_not_shown():
    log = (
        "\x1b[01m\x1b[Kcups.h:33:10:\x1b[m\x1b[K \x1b[01;31m\x1b[Kfatal error: \x1b[m\x1b[K"
        "cups/http.h: No such file or directory\n"
    )

    found = why(log)

    assert found.captured == "cups/http.h"
    assert found.evidence == "cups.h:33:10: fatal error: cups/http.h: No such file or directory"


@pytest.mark.parametrize(
    "escape", ["\x1b]0;title\x07", "\x1b]8;;file:///x\x1b\\", "\x1b[?25l", "\x1b(B", "\x9b", "\x07"]
)
def test_no_escape_reaches_a_terminal(escape):
    assert plain(f"a{escape}b".encode()).isprintable()


def test_the_output_of_a_program_as_python_shows_it_is_read_as_lines():
    shown = repr(PYCUPS.encode())

    found = why(f"Output was:\n{shown}\n")

    assert found.captured == "cups/http.h"
    assert found.evidence == "cupsmodule.h:33:10: fatal error: cups/http.h: No such file or directory"
    assert found.evidence_line == 2


def test_output_that_is_indented_is_read_as_if_it_were_not():
    assert why("".join(f"      {line}\n" for line in PYCUPS.splitlines())).captured == "cups/http.h"


def test_a_line_that_is_overwritten_in_place_is_seen_as_its_last_state():
    found = why("10 %\r 50 %\r100 %\rModuleNotFoundError: No module named 'numpy'\r\n")

    assert (found.captured, found.evidence) == ("numpy", "ModuleNotFoundError: No module named 'numpy'")


def test_lines_are_counted_by_line_feeds_over_all_pieces():
    log = b"ok\r\n" * 500_000 + PYCUPS.encode()

    assert diagnose(log[at : at + 4096] for at in range(0, len(log), 4096)).evidence_line == 500_005


# --- hostile logs ---


def test_a_line_that_never_ends_is_cut(tmp_path):
    path = tmp_path / "log"
    line = b"x.c:1:2: error: " * (8 << 16)
    path.write_bytes(line + b"\n" + PYCUPS.encode())

    found = diagnose(path)

    assert (found.captured, found.evidence_line) == ("cups/http.h", 6)
    assert len(why(line).evidence) <= 500


def test_what_is_captured_is_bounded():
    found = why(f"PermissionError: [Errno 13] Permission denied: '/{'x' * 350}'\n")

    assert len(found.captured) == 200


def test_a_large_log_takes_seconds_and_a_full_one_is_read_to_its_end():
    noise = b"x.c:1:2: warning: something is deprecated [-Wdeprecated-declarations]\n" * 15_000
    started = time.process_time()

    found = diagnose([*[noise] * 16, PYCUPS.encode()])

    assert found.captured == "cups/http.h"
    assert time.process_time() - started < 30


def test_a_log_made_to_keep_us_busy_does_not():
    words = {word for rule in RULES for word in rule.needs}
    harmless = b" } ".join(word for word in sorted(words) if why(word).reason is FailureReason.UNKNOWN)
    started = time.process_time()

    found = diagnose([(harmless + b"\n") * 1000] * 8)

    assert len(harmless) > 1000
    assert found.reason is FailureReason.UNKNOWN
    assert time.process_time() - started < 60


@settings(max_examples=100, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from([rule.example for rule in RULES] + ["\x1b[", "\r", "\n", "\0", "x" * 5000]),
        max_size=20,
    )
)
def test_whatever_the_log_it_has_a_reason(parts):
    found = why("".join(parts))

    assert found.reason in FailureReason
    assert found.evidence is None or len(found.evidence) <= 500
