# SPDX-License-Identifier: BSD-3-Clause
"""Package code confined: the sandbox, the limits of one run, and the eye that is kept on it to its end.

`sandbox` starts a run in bubblewrap, `watch` follows it; `memory`, `disk`, `processes` and `cgroups` hold it
to its limits, and `gate` lets it stand still. Imports nothing of the builder but `files`, `interpreter` and
`machine`.
"""
