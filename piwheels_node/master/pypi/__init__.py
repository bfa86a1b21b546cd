# SPDX-License-Identifier: BSD-3-Clause
"""PyPI: what it has, and what changes there.

    index     asks the Simple API about one project        listing   ... and what it says, as values
    feeds     what has changed since a serial: from the change log, the list of projects, or a watch list
    stored    what PyPI has of a project, in few bytes      notes     which projects must be asked about
    demand    what our own index is asked for
    mirror    yanks, deletions and quarantine, carried over to our own index
    follow    all of it in rounds, by one of several masters

This package knows tables and HTTP towards PyPI, and nothing of builders.
"""
