#!/usr/bin/env python3
"""Turns the example in flue.h's manual into a C file, so that it has to compile.

Usage: example.py FLUE.H OUT.C
"""

import sys

SIGNATURE = """int example(struct flue_hq *hq, flue_conn conn, struct flue_mr *mr, const void *data,
            uint32_t bytes)"""


def main(header, out):
    lines = open(header, encoding="utf-8").read().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(" * Example"))
    code = []
    for line in lines[start + 1:]:
        if line == " *":
            code.append("")
        elif line.startswith(" *     "):
            code.append(line[7:])
        else:
            break
    assert any("flue_post" in line for line in code), "found no example"
    with open(out, "w", encoding="utf-8") as file:
        file.write("#include <string.h>\n\n#include \"flue/flue.h\"\n\n")
        file.write(SIGNATURE + ";\n")
        file.write("\n".join(code))
        file.write("\n" + SIGNATURE)
        file.write("\n{\n    return send_and_close(hq, conn, mr, data, bytes);\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
