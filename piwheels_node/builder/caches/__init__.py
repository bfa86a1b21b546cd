# SPDX-License-Identifier: BSD-3-Clause
"""What builds share and need not keep: downloads, build environments, compiler results.

`shelves` bounds and locks them all, `seal` tells whether an entry is still what it was.
"""
