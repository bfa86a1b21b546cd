# SPDX-License-Identifier: BSD-3-Clause
"""What pages are made of. Each widget is told what to show, and paints only the lines that have changed.

painted   lines of cells as strips of a terminal; the base of all
lines     lines with words that may lead to other pages; the bar, headings and the line of keys
table     rows with a cursor, ordered, filtered
"""
