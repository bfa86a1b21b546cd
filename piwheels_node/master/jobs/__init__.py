# SPDX-License-Identifier: BSD-3-Clause
"""The queue: which jobs there are, who gets which, and what becomes of them.

`plan` says what should be built and `requests` turns a wish into jobs; `queue` moves a job through its states
by the statements of `rows`; `leases` and `lanes` decide which builder is sent which.
"""
