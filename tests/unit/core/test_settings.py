# SPDX-License-Identifier: BSD-3-Clause
"""Settings: which source wins, and what a wrong one is told."""

from __future__ import annotations

import pytest

from piwheels_node.core.errors import EXIT_USAGE, SettingsError
from piwheels_node.core.settings import ENVIRONMENT_PREFIX, RESERVED_VARIABLES, Settings, all_settings

KEY = "builder.timeout_s"
VARIABLE = "PIWHEELS_NODE_BUILDER_TIMEOUT_S"


def document(value, *, name="10-local.toml", section="builder", key="timeout_s"):
    return name, {section: {key: value}}


def refusal(*args, **kwargs) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        Settings.from_sources(*args, **kwargs)
    return caught.value


def test_without_any_source_every_setting_has_its_default():
    assert Settings.from_sources() == Settings()


@pytest.mark.parametrize(
    ("documents", "environ", "overrides", "timeout_s"),
    [
        ([document(60)], {}, [], 60),
        ([document(60), document(70, name="20-later.toml")], {}, [], 70),
        ([document(60)], {VARIABLE: "80"}, [], 80),
        ([document(60)], {VARIABLE: "80"}, [f"{KEY}=90"], 90),
        ([], {VARIABLE: "80"}, [f"{KEY}=90", f"{KEY}=100.5"], 100.5),
    ],
)
def test_the_later_source_wins(documents, environ, overrides, timeout_s):
    settings = Settings.from_sources(documents, environ, overrides)

    assert settings.builder.timeout_s == timeout_s


def test_sources_are_merged_by_setting_not_by_section():
    settings = Settings.from_sources([document(60), document(1, key="nice")], {}, ["master.port=8080"])

    assert (settings.builder.timeout_s, settings.builder.nice, settings.master.port) == (60, 1, 8080)


def test_every_setting_can_be_set_in_every_way():
    for key, setting in all_settings().items():
        section, name = key.split(".")
        variable = f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()
        value = "word" if setting.kind is str else setting.kind((setting.least or 0) + 5)

        for settings in (
            Settings.from_sources([document(value, section=section, key=name)]),
            Settings.from_sources(environ={variable: str(value)}),
            Settings.from_sources(overrides=[f"{key}={value}"]),
        ):
            assert getattr(getattr(settings, section), name) == value, key


def test_every_setting_is_explained_and_its_default_is_allowed():
    for key, setting in all_settings().items():
        assert setting.sentence.endswith("."), key
        assert type(setting.default) is setting.kind, key
        assert setting.least is None or setting.default >= setting.least, key


@pytest.mark.parametrize(
    ("how", "where", "hint"),
    [
        ({"documents": [document(1, key="timeout")]}, "builder.timeout in 10-local.toml", KEY),
        ({"documents": [document(1, section="bilder")]}, "bilder.timeout_s in 10-local.toml", KEY),
        ({"documents": [("10-local.toml", {"builder": 3})]}, "builder in 10-local.toml", "builder."),
        ({"environ": {"PIWHEELS_NODE_BUILDER_TIMEOUT": "1"}}, "PIWHEELS_NODE_BUILDER_TIMEOUT", VARIABLE),
        ({"environ": {"PIWHEELS_NODE_MASTR": "x"}}, "PIWHEELS_NODE_MASTR", "PIWHEELS_NODE_MASTER"),
        ({"overrides": ["builder.timeout=1"]}, "--set builder.timeout=1", KEY),
        ({"overrides": ["xyzzy=1"]}, "--set xyzzy=1", "docs/settings.md"),
    ],
)
def test_an_unknown_name_is_told_where_it_stands_and_the_nearest_known_one(how, where, hint):
    error = refusal(**how)

    assert error.where == where
    assert hint in error.hint
    assert error.exit_code == EXIT_USAGE


@pytest.mark.parametrize("value", ["60", True, None, [60], {"s": 60}])
def test_a_document_gives_a_setting_its_own_type(value):
    error = refusal([document(value)])

    assert "must be a number" in error.what
    assert "10-local.toml" in error.where
    assert "10800.0" in error.hint


@pytest.mark.parametrize(("key", "value"), [("nice", 1.0), ("nice", False), ("python", 3), ("account", None)])
def test_a_whole_number_is_no_fraction_and_a_text_no_number(key, value):
    assert refusal([document(value, key=key)]).what.startswith(f"builder.{key} must be ")


@pytest.mark.parametrize("text", ["", "ten", "1h", "0x10"])
def test_a_text_that_is_no_number_is_refused(text):
    assert refusal(environ={VARIABLE: text}).where == VARIABLE
    assert refusal(overrides=[f"{KEY}={text}"]).where == f"--set {KEY}={text}"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "-inf"])
def test_a_value_below_its_bound_is_refused(text):
    assert refusal(overrides=[f"{KEY}={text}"]).what.startswith(f"{KEY} must be 1 or more")


def test_a_word_without_a_value_is_refused():
    assert refusal(overrides=[KEY]).hint == "--set SECTION.KEY=VALUE"


def test_a_value_may_have_an_equals_sign():
    settings = Settings.from_sources(overrides=["pypi.index_url=http://127.0.0.1/simple/?a=b"])

    assert settings.pypi.index_url == "http://127.0.0.1/simple/?a=b"


def test_variables_of_others_and_those_that_are_no_settings_are_passed_over():
    environ = {"HOME": "/", "PIWHEELS": "1", **dict.fromkeys(RESERVED_VARIABLES, "x")}

    assert Settings.from_sources(environ=environ) == Settings()
