# SPDX-License-Identifier: BSD-3-Clause
"""The words of the domain: targets, jobs, failures, messages, settings and errors.

Nothing in here does I/O, and nothing in here imports another package of ours.
"""
