#!/usr/bin/env python3
"""Checks that simulators built by different compilers live in the same worlds.

    tests/sim/compare.py PROGRAM PROGRAM... [--seeds N]

Runs each over the same seeds, and exits with 1 when the hash of a world differs.
"""

import argparse
import subprocess
import sys


def hashes(program, seeds):
    command = [program, "--hashes", "--seeds", str(seeds)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = [line.split() for line in run.stdout.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[0].isdigit()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", nargs="+")
    parser.add_argument("--seeds", type=int, default=500)
    arguments = parser.parse_args()
    first = hashes(arguments.programs[0], arguments.seeds)
    problems = 0 if len(first) == arguments.seeds else 1
    for program in arguments.programs[1:]:
        other = hashes(program, arguments.seeds)
        differ = [seed for seed in first if first[seed] != other.get(seed)]
        problems += len(differ)
        for seed in differ[:5]:
            print(f"seed {seed}: {first[seed]} and, by {program}, {other.get(seed)}")
    print(f"{len(first)} seeds, {len(arguments.programs)} programs, {problems} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
