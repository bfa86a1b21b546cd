# SPDX-License-Identifier: BSD-3-Clause
"""The terminal screen of a farm, or of one node: what is built where, why builds fail, and acting on it.

    words       foreign texts made harmless; ages, amounts, shares; `Cell`: words and what they mean
    look        what the meanings look like: colours and glyphs, also on a console with 16 colours
    snapshot    what is asked of a master, as frozen values
    builders    the table of builders: rows, order, filter
    machines    ... and for the other pages, each what it asks and the words and rows of it: one builder,
    builds      one build,
    failures    why builds failed, packages, queue, statistics
    logs        the log of a build as clean lines, of which a bounded number is held; saving: into files
    charts      numbers as characters; drawing: as lines with names
    actions     the one list of what can be done: keys, footer, help, palette and docs come from it
    deeds       ... what is told to the master then
    polling     asking off the screen's thread, and how often
    app         one snapshot, one message, one place that draws it
    screens/    the pages; `screens/base.py` says what a page must provide
    widgets/    lines and tables that paint only what has changed

It knows the client and `core`, and nothing of ours else. Only `app`, `screens` and `widgets` import Textual.
"""
