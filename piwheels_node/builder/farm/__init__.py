# SPDX-License-Identifier: BSD-3-Clause
"""The builder's life with its master: it leases a job, follows orders, hands in what came out.

`service` runs it all, `assignment` is one leased job, `orders` hears what the master wants, `patience` waits
for a master that is away, and `membership` is the key by which the master knows this machine. Nothing else in
the builder knows that there is a master.
"""
