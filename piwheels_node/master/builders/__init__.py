# SPDX-License-Identifier: BSD-3-Clause
"""What is decided about builders: who may build, what they are told, what is withdrawn; and keys."""
