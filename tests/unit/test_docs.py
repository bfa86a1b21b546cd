# SPDX-License-Identifier: BSD-3-Clause
"""The documentation is compared with the code: what exists is named, and what is named exists."""

from __future__ import annotations

import configparser
import dataclasses
import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from piwheels_node.cli.main import group
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import ENVIRONMENT_PREFIX, RESERVED_VARIABLES, Settings, all_settings
from piwheels_node.dashboard.actions import ACTIONS, MOVES
from piwheels_node.dashboard.screens import PAGES as PAGES_OF_DASHBOARD
from piwheels_node.master.api import Context, make_api

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "piwheels_node"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NOT_IN_DEBIAN = "not in Debian"


def page(name):
    return (DOCS / name).read_text()


def rows(text):
    """The first cells of all rows of all tables, each as a list of its cells."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def section(text, title):
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def words(names):
    """How a list of names reads in a table: `a`."""
    return {f"`{name}`" for name in names}


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", all_settings().values(), ids=lambda setting: setting.key)
def test_a_setting_is_listed_with_its_default_least_and_sentence(setting):
    (row,) = [row for row in rows(page("settings.md")) if row[0] == f"`{setting.key}`"]

    default = json.dumps(setting.default)
    assert row[1].split(" (")[0] == f"`{default}`"
    assert row[2].strip("|").strip() == ("" if setting.least is None else f"{setting.least:.10g}")
    assert row[3].strip("| ") == setting.sentence


UNITS = {"s": 1, "min": 60, "h": 3600, "day": 86400, "MiB": 1 << 20, "GiB": 1 << 30}


def test_a_default_in_human_units_is_the_same_amount():
    told = re.findall(r"\| `([\d.]+)` \((\d+) (\w+)\) \|", page("settings.md"))

    assert told
    assert all(float(amount) == int(count) * UNITS[unit] for amount, count, unit in told)


def test_no_setting_is_listed_that_does_not_exist():
    keys = [row[0] for row in rows(page("settings.md")) if "." in row[0]]

    assert keys == [f"`{key}`" for key in all_settings()]


def test_the_example_of_settings_can_be_read():
    block = re.search(r"(?:^    .*\n|\n)+", page("settings.md").split("is bytes.\n", 1)[1], re.MULTILINE)
    text = "\n".join(line.removeprefix("    ") for line in block[0].splitlines())

    assert Settings.from_sources([("example", tomllib.loads(text))]) != Settings()


@pytest.mark.parametrize(("variable", "sentence"), RESERVED_VARIABLES.items())
def test_a_variable_is_listed_with_its_sentence(variable, sentence):
    assert f"| `{variable}` | {sentence} |" in page("settings.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_variable_is_named_that_does_not_exist(path):
    named = set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]", path.read_text()))
    known = {ENVIRONMENT_PREFIX + key.replace(".", "_").upper() for key in all_settings()}

    assert named <= known | set(RESERVED_VARIABLES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_key_of_a_section_is_named_that_does_not_exist(path):
    sections = {key.partition(".")[0] for key in all_settings()}
    named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)[`=]", path.read_text())

    assert {key for key in named if not key.endswith(".py")} <= set(all_settings())


# --- failures and states -------------------------------------------------------------------------------


def test_every_reason_is_listed_with_its_sentence_policy_and_what_to_do():
    listed = rows(section(page("failures.md"), "Reasons"))

    assert [row[:3] for row in listed] == [
        [f"`{reason.value}`", reason.sentence, reason.policy.value] for reason in FailureReason
    ]
    assert all(len(row[3].strip("| ")) > 10 for row in listed)


def test_every_policy_is_explained():
    listed = rows(section(page("failures.md"), "What follows from a failure"))

    assert {row[0] for row in listed} == words(policy.value for policy in Policy)


@pytest.mark.parametrize(
    ("title", "kind"),
    [("What a builder can be", BuilderState), ("What a builder can be told", Mode)],
)
def test_every_state_and_mode_of_a_builder_is_explained(title, kind):
    listed = rows(section(page("farm.md"), title))

    assert [row[0] for row in listed] == [f"`{member.value}`" for member in kind]


def test_every_endpoint_is_listed_and_no_other():
    parts = [one.name for one in dataclasses.fields(Context) if one.default is one.default_factory]
    described = make_api(Context(**dict.fromkeys(parts))).openapi()["paths"]
    told = {
        f"{method.upper()} {path.removeprefix('/api/v1')}": facts["description"].splitlines()[0]
        for path, methods in described.items()
        for method, facts in methods.items()
    }

    listed = rows(page("api.md").split("## Errors")[0])
    assert {row[0].strip("`"): row[1].strip("| ") for row in listed} == told


def test_every_state_of_a_job_is_explained_and_no_other():
    listed = rows(section(page("failures.md"), "What a job can be in"))

    assert [row[0] for row in listed] == [f"`{state.value}`" for state in JobState]


# --- commands ------------------------------------------------------------------------------------------


def commands(of=group, prefix=""):
    """Every command that does something, by its full name: `build`, `master token new`."""
    context = click.Context(of)
    found = {}
    for name in of.list_commands(context):
        command = of.get_command(context, name)
        full = f"{prefix}{name}"
        found |= commands(command, f"{full} ") if isinstance(command, click.Group) else {full: command}
    return found


def spellings(parameters):
    """How options are spelled, those for help left out: every command has them."""
    options = [one for one in parameters if isinstance(one, click.Option)]
    return {spelling for option in options for spelling in (*option.opts, *option.secondary_opts)} - {
        "-h",
        "--help",
    }


SHARED = "Options that many commands share"


def test_every_command_has_a_section_and_every_section_a_command():
    titles = re.findall(r"^## (.+)$", page("commands.md"), re.MULTILINE)

    assert set(titles) == {*commands(), SHARED}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_listed_and_no_other(name):
    listed = [row[0] for row in rows(section(page("commands.md"), name))]

    own = {cell.strip("`").split()[0] for cell in listed}
    shared = {row[0].strip("`").split()[0] for row in rows(section(page("commands.md"), SHARED))}
    has = spellings(commands()[name].params)
    assert own <= has <= own | shared
    assert f"piwheels-node {name} [OPTIONS]" in page("commands.md")


def test_the_options_before_the_command_are_named():
    text = page("commands.md").split("\n## ", 1)[0]

    assert spellings(group.params) | {"-h", "--help"} == set(re.findall(r"`(--?[a-z]+)`", text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_call_commands_and_options_that_exist(path):
    known = commands()
    first = {name.split()[0] for name in known}
    for call in re.findall(rf"piwheels-node ((?:{'|'.join(first)})\b[^\n`]*)", path.read_text()):
        words = [word for word in call.split("  ")[0].split() if word != "[OPTIONS]"]
        names = [name for name in known if words[: len(name.split())] == name.split()]
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert names, call
        assert options <= spellings(known[max(names, key=len)].params), call


# --- files and targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())

    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["architecture.md", "development.md", "failures.md"])
def test_paths_that_are_named_exist(name):
    text = re.sub(r"^```.*?^```", "", page(name), flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r"(?:`|\*\*)([\w./*-]+(?:\.(?:py|md|toml|txt|cfg|tsv)|/))(?:`|\*\*)", text)
    roots = [ROOT, PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    ours = [path for path in named if not path.startswith("/") and "NNNN" not in path]

    assert ours
    assert [path for path in ours if not any(list(root.glob(path.strip("/"))) for root in roots)] == []


def test_every_module_is_in_the_architecture_by_name_or_by_its_package():
    text = page("architecture.md")
    packages = set(re.findall(r"\*\*([\w/]+)/\*\*", text))
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    missing = [
        str(module)
        for module in modules
        if not packages & {str(parent) for parent in module.parents} and module.name not in text
    ]

    assert missing == []


def test_the_targets_of_make_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    for path in [*PAGES, ROOT / ".ci" / "run"]:
        named = re.findall(r"(?:`|^ {4}|^exec )make ([a-z-]+)", path.read_text(), re.MULTILINE)
        assert set(named) <= targets, path


def test_every_target_of_make_for_people_is_in_the_development_page():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert [name for name in targets if f"make {name}" not in page("development.md")] == []


def test_no_host_of_a_package_registry_is_spelled():
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("python" + "hosted", "org"),
            ("pypi", "python", "org"),
            ("deb", "debian", "org"),
            ("archive", "raspberrypi"),
            ("raspbian", "raspberrypi"),
        )
    ]
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in tracked.decode().split("\0") if name]
    texts = {path: path.read_text(errors="replace").lower() for path in paths if path.is_file()}

    assert [(path.name, host) for path, text in texts.items() for host in hosts if host in text] == []


# --- dependencies --------------------------------------------------------------------------------------


def dependencies():
    """(name, lowest version or None, comment) of every dependency in setup.cfg."""
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    inside, found = False, []
    for line in lines:
        if not line.startswith(" "):
            inside = line.startswith(("install_requires", *EXTRAS)) and line.rstrip().endswith("=")
        elif inside:
            requirement, _, comment = line.partition("#")
            name, _, lowest = requirement.partition(">=")
            found.append((name.strip(), lowest.strip() or None, comment.strip()))
    return found


def extras():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return tuple(parser["options.extras_require"])


EXTRAS = extras()


def test_every_dependency_has_its_debian_name_beside_it():
    assert len(dependencies()) > 15
    assert [name for name, _, comment in dependencies() if not comment] == []
    for name, _, comment in dependencies():
        assert comment.startswith(NOT_IN_DEBIAN) or re.fullmatch(
            r"[a-z0-9][a-z0-9.+-]+(, [a-z0-9.+-]+)*", comment
        ), name


def test_what_runs_depends_on_nothing_that_debian_lacks():
    parser = configparser.ConfigParser(inline_comment_prefixes=())
    parser.read(ROOT / "setup.cfg")

    assert NOT_IN_DEBIAN not in parser["options"]["install_requires"]


def test_the_lowest_versions_are_those_that_the_tests_run_with():
    constraints = (ROOT / "tests" / "constraints-trixie.txt").read_text()
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    except_for = {"httptools"}  # Debian's own build of it; the file says why

    differing = [
        (name, lowest, tested[name])
        for name, lowest, _ in dependencies()
        if lowest and name in tested and name not in except_for and lowest != tested[name]
    ]
    assert differing == []


# --- the dashboard -------------------------------------------------------------------------------------


def dashboard_page():
    """The tool that fills docs/dashboard.md, as a module."""
    specification = importlib.util.spec_from_file_location("dashboard_page", ROOT / "tools/dashboard_page.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_of_the_dashboard_has_the_screens_and_keys_of_today():
    text = page("dashboard.md")

    assert text == dashboard_page().filled(text), "python tools/dashboard_page.py writes it anew"


def test_every_page_of_the_dashboard_has_its_keys_and_every_key_its_row():
    text = page("dashboard.md")

    assert set(re.findall(r"<!-- keys: ([\w-]+) -->", text)) == {*PAGES_OF_DASHBOARD, "all"}
    told = {row[1].strip("| ").partition(" (operators")[0] for row in rows(text)}
    assert told == {one.sentence for one in (*ACTIONS, *MOVES)}
