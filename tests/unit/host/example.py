#!/usr/bin/env python3
"""Turns the examples in flue.h's manual into a C file, so that they have to compile.

Usage: example.py FLUE.H OUT.C
"""

import sys

CALLS = [("int example(struct flue_hq *hq, flue_conn conn, struct flue_mr *mr, const void *data,\n"
          "            uint32_t bytes)", "send_and_close(hq, conn, mr, data, bytes)"),
         ("int example_tree(struct flue_hq *hq, struct flue_mr *mr, struct tree *tree,\n"
          "                 unsigned worker)", "offload_tree(hq, mr, tree, worker)")]


def examples(lines):
    """Returns the code below each line that says `Example`."""
    code = []
    for start in (i for i, line in enumerate(lines) if line.startswith(" * Example")):
        for line in lines[start + 1:]:
            if line != " *" and not line.startswith(" *     "):
                break
            code.append(line[7:])
    return code


def main(header, out):
    code = examples(open(header, encoding="utf-8").read().splitlines())
    with open(out, "w", encoding="utf-8") as file:
        file.write("#include <string.h>\n\n#include \"flue/flue.h\"\n\n")
        file.write("\n".join(code))
        for signature, call in CALLS:
            file.write(f"\n{signature};\n{signature}\n{{\n    return {call};\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
