# SPDX-License-Identifier: BSD-3-Clause
"""The computer that somebody lent us: what it is, how it is doing, and when a builder stands still for it."""
