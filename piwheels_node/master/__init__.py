# SPDX-License-Identifier: BSD-3-Clause
"""The master: it decides what to build, keeps the queue, and publishes the index.

Nothing in here imports `builder` or `consumer`.
"""
