# SPDX-License-Identifier: BSD-3-Clause
"""The master as a running program.

`service` puts the parts together, `listener` speaks HTTP and HTTPS, `upkeep` does what happens by itself;
`directory`, `certificate` and `keyfiles` care for what lies in the data directory.
"""
