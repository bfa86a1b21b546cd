# SPDX-License-Identifier: BSD-3-Clause
"""What screens ask for every few seconds, as messages: answers that cost the same however large the farm is.

    farm         the farm at a glance; all builders as rows
    builds       builds page by page, and everything about one
    lanes        what waits in the queue, and what comes next
    statistics   builds by day, hour and builder; wheels by tag
    projects     projects whose names fit
    retrying     jobs that have ended, once more

Nothing here walks a large table: numbers are counters, lists end after so many rows, and what is searched
has an index or a bound. Functions take a session and give `core.messages`; no module here knows HTTP.
"""
