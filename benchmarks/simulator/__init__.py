# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the fleet simulator (`benchmarks/fleet.py`), from the wire up.

    wire      HTTP/1.1 by hand: cheap, and able to cut a connection wherever it hurts
    world     what each job is like: how long, whether it fails, which wheel comes of it
    faults    what goes wrong, and how often
    ledger    what each simulated builder did, sent and was told; what it should never have been told
    builder   a simulated builder
    masters   real masters as processes of their own, PostgreSQL where wanted; their CPU and memory
    fill      jobs, builders and keys, put into the database before the masters start
    account   at the end: does the database agree with itself, the disk, the index and the ledger?

Only `fill` and `account` touch the database; builders know nothing but HTTP.
"""
