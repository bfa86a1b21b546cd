# SPDX-License-Identifier: BSD-3-Clause
"""The builder: takes a job from a master, builds it in isolation, and hands the wheel back.

`service` holds the jobs, `build` takes the six steps of one; each of the others knows one thing: `source`,
`environment`, `sandbox`, `diagnosis`, `libraries`. Nothing in here imports the master's packages.
"""
