# SPDX-License-Identifier: BSD-3-Clause
"""The pages: which there are, and making one. A page's module is imported when it is opened."""

from __future__ import annotations

import importlib
from typing import Any

from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.words import Place

PAGES = {
    "home": "piwheels_node.dashboard.screens.home:Home",
    "builder": "piwheels_node.dashboard.screens.builder:Builder",
    "build": "piwheels_node.dashboard.screens.build:Build",
    "queue": "piwheels_node.dashboard.screens.queue:Queue",
    "failures": "piwheels_node.dashboard.screens.failures:Failures",
    "packages": "piwheels_node.dashboard.screens.packages:Packages",
    "node": "piwheels_node.dashboard.screens.node:Node",
    "statistics": "piwheels_node.dashboard.screens.statistics:StatisticsPage",
}
"""Name of a page -> where its class is. The name is what `Place.page`, `Action.pages` and the docs say."""


def make(place: Place) -> Page[Any]:
    """The page of a place."""
    module, _, name = PAGES[place.page].partition(":")
    page: Page[Any] = getattr(importlib.import_module(module), name)(place.about)
    return page
