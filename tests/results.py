#!/usr/bin/env python3
"""Counts test cases in the log that `meson test` leaves in meson-logs/testlog.json.

Prints "PASSED FAILED SKIPPED" and, to standard error, what failed.  A GoogleTest program counts as
its cases, everything else as one.  The JUnit file beside that log will not do: there a program that
hangs passes, and so does one whose cases pass before a sanitizer ends it.
"""

import json
import re
import sys

STARTED = re.compile(r"^\[ RUN {6}\] (\S+)$", re.MULTILINE)
ENDED = re.compile(r"^\[ *(OK|FAILED|SKIPPED) *\] (\S+?),?(?: .*)?\(\d+ ms\)$", re.MULTILINE)


def outcomes_of(test):
    """Returns {case: "OK", "FAILED" or "SKIPPED"} of one entry of the log; a case that did not end
    has failed."""
    output = test.get("stdout") or ""
    outcomes = {name: "FAILED" for name in STARTED.findall(output)}
    outcomes.update((name, outcome) for outcome, name in ENDED.findall(output))
    return outcomes


def count_test(test):
    """Returns (passed, names of failed, skipped) of one entry of the log."""
    output, result = test.get("stdout") or "", test["result"]
    outcomes = outcomes_of(test)
    values = list(outcomes.values())
    failed = [f"{test['name']}: {name}" for name in outcomes if outcomes[name] == "FAILED"]
    passed, skipped = values.count("OK"), values.count("SKIPPED")
    if result == "SKIP":
        skipped += 1
    elif result not in ("OK", "EXPECTEDFAIL"):
        failed = failed or [f"{test['name']}: {result.lower()}"]
    elif not values and "[==========]" not in output:
        passed = 1
    return passed, failed, skipped


def main(path):
    passed, failed, skipped = 0, [], 0
    with open(path, encoding="utf-8") as log:
        for line in log:
            counts = count_test(json.loads(line))
            passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
    for name in failed:
        print(f"  failed: {name}", file=sys.stderr)
    print(passed, len(failed), skipped)


if __name__ == "__main__":
    main(sys.argv[1])
