# SPDX-License-Identifier: BSD-3-Clause
"""The command line: one module per group of commands, imported when its command runs."""
