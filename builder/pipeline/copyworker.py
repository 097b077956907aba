"""A process that reads and copies files: ``main([SOURCE_FD, GOAL_FD])``.

Started by ``bulkcopy`` with the directories as inherited descriptors. Reads (digest, batches) from stdin, writes
([(id, facts)], failure or None) to stdout when everything is done, both marshalled: the two ends are the same program.
"""

from __future__ import annotations

import marshal
import os
import sys

from builder.pipeline.bulkcopy import Batch, work


def main(arguments: list[str]) -> None:
    """Do the share of the work that comes on stdin."""
    source = int(arguments[0])
    goal = int(arguments[1]) if len(arguments) > 1 else None
    # Files get the permissions that they are opened with, which saves a chmod for each.
    os.umask(0)
    digest, batches = marshal.load(sys.stdin.buffer)
    results: list[tuple[int, tuple[object, ...]]] = []
    failures: list[tuple[str, int]] = []
    for batch in batches:
        results += [
            (number, tuple(facts))
            for number, facts in work(source, goal, Batch(*batch), digest=digest, failures=failures)
        ]
        if failures:
            break
    marshal.dump((results, failures[0] if failures else None), sys.stdout.buffer)
    sys.stdout.buffer.flush()
