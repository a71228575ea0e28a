"""Deterministic simulation: one seed decides durations, troubles, order and crashes, and always the same way.

The whole client runs, from `open_batch` down to SQLite and the files, on a loop whose time jumps from timer to timer;
only HTTP is replaced, by the simulator's own desk without its sockets. A seed is several *lives* of one job: each one
crashes, is stopped, or ends by itself, and the next goes on from what it left. After each life the account book, the
journal and the folder are audited against the promises.

    python -m tests.simulation 0 200      # the seeds from 0 up to 199
    python -m tests.simulation 17         # one seed, with its trace
"""
