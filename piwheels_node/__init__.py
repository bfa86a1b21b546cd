# SPDX-License-Identifier: BSD-3-Clause
"""Ready-made Python wheels for Raspbian: consumer, builder and master in one package."""

__version__ = "0.1.0"
