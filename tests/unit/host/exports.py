#!/usr/bin/env python3
"""libflue.so shows flue_* only, needs no DPDK library, and defines what flue.h declares.

Usage: exports.py LIBFLUE.SO FLUE.H
"""

import re
import subprocess
import sys


def readelf(*arguments):
    command = ["readelf", "-W", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(library, header):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d", library))
    assert needed, "readelf shows no needed libraries"
    dpdk = [name for name in needed if name.startswith("librte_")]
    assert not dpdk, f"needs DPDK: {dpdk}"

    exported = set()
    for line in readelf("--dyn-syms", library).splitlines():
        fields = line.split()
        # An absolute symbol is the name of a version.
        if len(fields) >= 8 and fields[3] in ("FUNC", "OBJECT") and fields[6] not in ("UND", "ABS"):
            exported.add(fields[7].split("@")[0])
    foreign = {name for name in exported if not name.startswith("flue_")}
    assert not foreign, f"exports what is not flue_*: {sorted(foreign)}"

    with open(header, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    declared = set(re.findall(r"\b(flue_\w+)\s*\([^;{]*\)\s*;", text))
    assert declared, "found no declarations"
    assert declared == exported, f"declared or exported, not both: {sorted(declared ^ exported)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
