#!/usr/bin/env python3
"""Checks what the compilers do not: layers, lengths, citations, and that every file has its test.

    tests/tidy.py [ROOT]

Prints `path:line: what is wrong` for each finding and exits with 1 when there is one.
"""

import pathlib
import re
import sys

# What a layer may include of the others.  design.md, section 3
LAYERS = {
    "base": set(),
    "wire": {"base"},
    "tcp": {"base", "wire"},
    "queue": {"base"},
    "chimney": {"base", "wire", "tcp", "queue"},
    "target": {"base", "wire", "tcp", "queue", "chimney"},
    "host": {"base", "queue"},
}
# What of DPDK a layer may include itself; not in the table: nothing.
DPDK = {"queue": re.compile(r"rte_ring\w*\.h"), "target": re.compile(r"(rte|bus)_\w+\.h")}
# Public headers a layer may include: below the contract there is none.
PUBLIC = {
    "queue": {"flue/abi.h"},
    "chimney": {"flue/abi.h"},
    "target": {"flue/abi.h", "flue/flue.h"},
    "host": {"flue/abi.h", "flue/flue.h"},
}
# The engine has no clock, no randomness of its own, no threads and no I/O.
PURE_LAYERS = {"wire", "tcp"}
IMPURE = {"atomic", "chrono", "ctime", "fstream", "iostream", "mutex", "random", "thread"}
IMPURE |= {"stdio.h", "cstdio", "time.h", "unistd.h", "x86intrin.h"}

LINE_LENGTH = 100
# The two headers that are manuals: a row of an enumeration and its meaning stay on one line.
LINE_LENGTHS = {"include/flue/abi.h": 120, "include/flue/flue.h": 123}
FUNCTION_LINES = 70
FILE_LINES = 600

# Files of lib/ without a unit test of their own: why, and which.  A name that is not needed here,
# because the file is gone or has a test now, is an error.
UNTESTED_BECAUSE = {
    "every test of tests/unit/tcp goes through it": """
        lib/tcp/drops.cpp lib/tcp/engine.cpp lib/tcp/invariants.cpp""",
    "queue_memory_test and region_memory_test map with it": """
        lib/queue/mapping.cpp""",
    "tests/queue runs it against a target in another process": """
        lib/queue/host_rings.cpp lib/host/error.cpp lib/host/host_queue.cpp lib/host/mr.cpp""",
    "the tests of the requests in tests/unit/chimney go through it": """
        lib/chimney/chimney.cpp lib/chimney/connections.cpp lib/chimney/nodes.cpp
        lib/chimney/send.cpp lib/chimney/state_block.cpp""",
    "target_test starts a whole target with it": """
        lib/target/control.cpp lib/target/dma.cpp lib/target/eal.cpp lib/target/log.cpp
        lib/target/pools.cpp lib/target/port.cpp lib/target/port_report.cpp lib/target/session.cpp
        lib/target/session_claims.cpp lib/target/telemetry.cpp
        lib/target/telemetry_sessions.cpp lib/target/worker.cpp
        lib/target/worker_messages.cpp""",
    "needs a target, a kernel and a wire: tests/e2e, tests/migrate and flue demo": """
        lib/host/move.cpp lib/host/linux/endpoint.cpp lib/host/linux/socket_offload.cpp
        lib/host/linux/socket_upload.cpp lib/host/linux/target_requests.cpp
        lib/target/worker_receive.cpp lib/target/worker_transmit.cpp""",
}
UNTESTED = {name for names in UNTESTED_BECAUSE.values() for name in names.split()}

FOLDERS = ("include", "lib", "app", "tests", "bench")
SOURCES = {".c", ".cpp", ".h", ".hpp"}
TEXTS = SOURCES | {".def", ".py", ".sh"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
CITATION = re.compile(r"\b[Rr][Ff][Cc]s?[ -]*\d+[^\n]{0,12}")
GOOD_CITATION = re.compile(
    r"RFCs? \d+(?!\d| *§|,? *([Ss]ection|[Ss]ec\b|[Cc]hapter))|RFC \d+ §[0-9A-Z]")
COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"\(.*?\)"'
    r'|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
FUNCTION_END = re.compile(r"\)( ?(const|noexcept|override|final|mutable|&&?|-> .+|: .+))*$")
LATER = "TO" "DO|FIX" "ME|X" "XX"


def layer_of(path):
    parts = path.parts
    return parts[1] if parts[0] == "lib" and len(parts) > 2 else None


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def blank(match):
    """Replaces what was found by spaces, so that positions stay what they are."""
    return re.sub(r"[^\n]", " ", match.group())


def without_comments_and_strings(text):
    return COMMENT_OR_STRING.sub(blank, text)


def check_include(layer, system, name):
    """Returns what is wrong with an include in a file of `layer`, or None."""
    if name in ("cassert", "assert.h"):
        return "<cassert> vanishes with NDEBUG: use FLUE_ASSERT"
    if name == "linux/tcp.h":
        return "its tcp_info is another one than <netinet/tcp.h>'s, under the same name: use that"
    if re.match(r"(rte|bus)_", name):
        allowed = DPDK.get(layer)
        return None if allowed and allowed.fullmatch(name) else f"{layer} may not include <{name}>"
    if layer in PURE_LAYERS and name in IMPURE:
        return f"{layer} is pure: no <{name}>"
    if system:
        return None
    folder = name.split("/")[0]
    if folder == "flue":
        return None if name in PUBLIC.get(layer, ()) else f"{layer} may not include {name}"
    if folder not in LAYERS:
        return f'write "layer/file.hpp", not "{name}"'
    if folder != layer and folder not in LAYERS[layer]:
        return f"{layer} may not include {folder}"
    return None


def check_includes(path, text):
    layer = layer_of(path)
    for match in INCLUDE.finditer(text):
        problem = None
        if layer in LAYERS:
            problem = check_include(layer, match.group(1) == "<", match.group(2))
        elif path.parts[0] == "include" and re.match(r"(rte|bus)_|\w+/.*\.hpp", match.group(2)):
            problem = f"a host process has no {match.group(2)}"
        if problem:
            yield line_of(text, match.start()), problem


def check_lines(path, text):
    limit = LINE_LENGTHS.get(path.as_posix(), LINE_LENGTH)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > limit:
            yield number, f"{len(line)} characters, {limit} fit"
        if re.search(rf"\b({LATER})\b", line):
            yield number, "do it now, or open an issue"


def check_citations(_path, text):
    for match in CITATION.finditer(text):
        if not GOOD_CITATION.match(match.group()):
            yield line_of(text, match.start()), 'write "RFC 9293 §3.10"'


def check_guard(path, text):
    if path.suffix == ".hpp" and not re.search(r"^#pragma once$", text, re.MULTILINE):
        yield 1, "no #pragma once"
    if path.suffix == ".h" and not re.search(r"^#ifndef FLUE_(\w+_)?H$", text, re.MULTILINE):
        yield 1, "no guard"


def is_function_head(head):
    head = re.sub(r"\s+", " ", head).strip()
    if not head or re.match(r"(namespace|extern|using|typedef)\b|.*[^=!<>]=[^=]", head):
        return False
    return FUNCTION_END.search(head) is not None


def functions(text):
    """Yields (line, name, lines) of each function that is not inside another."""
    code = DIRECTIVE.sub(blank, without_comments_and_strings(text))
    depth, inside, start, head_start, name = 0, None, 0, 0, ""
    for match in re.finditer(r"[{};]", code):
        at, token = match.start(), match.group()
        if token == "{":
            head = code[head_start:at]
            initializer = at > 0 and (code[at - 1].isalnum() or code[at - 1] in "_>")
            if inside is None and not initializer and is_function_head(head):
                found = re.search(r"([~\w:]+|operator[^(]*)\s*\(", head)
                inside, name = depth, found.group(1) if found else "?"
                start = head_start + len(head) - len(head.lstrip())
            depth += 1
            if not initializer:
                head_start = at + 1
        elif token == "}":
            depth -= 1
            if inside == depth:
                yield line_of(code, start), name, code.count("\n", start, at) + 1
                inside = None
            if code[at + 1 : at + 2] not in (",", ")") and not code[at + 1 :].startswith(" {"):
                head_start = at + 1
        else:
            head_start = at + 1


def check_lengths(path, text):
    if path.parts[0] == "lib" and text.count("\n") > FILE_LINES:
        yield 1, f"{text.count(chr(10))} lines, {FILE_LINES} fit: it holds more than one thing"
    for line, name, lines in functions(text):
        if lines > FUNCTION_LINES:
            yield line, f"{name} has {lines} lines, {FUNCTION_LINES} fit"


def check_file(path, text):
    """Returns [(line, problem)] of one file; `path` is relative to the root."""
    checks = [check_lines, check_citations]
    if path.suffix in SOURCES:
        checks += [check_includes, check_guard, check_lengths]
    return [found for check in checks for found in check(path, text)]


def check_tests(paths, untested):
    """Yields (path, problem) for each lib/<layer>/x.cpp without tests/unit/<layer>/x_test.cpp."""
    for path in sorted(paths):
        if path.parts[0] != "lib" or path.suffix != ".cpp":
            continue
        test = pathlib.PurePath("tests/unit", *path.parts[1:-1], path.stem + "_test.cpp")
        if test not in paths and path.as_posix() not in untested:
            yield path, f"has no {test}"
        if test in paths and path.as_posix() in untested:
            yield path, "is tested: take it off UNTESTED"
    for name in sorted(untested):
        if pathlib.PurePath(name) not in paths:
            yield pathlib.PurePath(name), "is gone: take it off UNTESTED"


def main(root):
    files = [file for folder in FOLDERS for file in (root / folder).rglob("*")]
    paths = {pathlib.PurePath(f.relative_to(root)): f for f in files if f.suffix in TEXTS}
    problems = 0
    for path, file in sorted(paths.items()):
        for line, problem in check_file(path, file.read_text(encoding="utf-8")):
            print(f"{path}:{line}: {problem}")
            problems += 1
    for path, problem in check_tests(set(paths), UNTESTED):
        print(f"{path}:1: {problem}")
        problems += 1
    print(f"{len(paths)} files, {problems} problems")
    return 1 if problems or not paths else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
