# SPDX-License-Identifier: BSD-3-Clause
"""How a report becomes a public wheel: `publish` decides, `store` keeps the bytes, `logs` the logs."""
