#!/usr/bin/env python3
"""The table of rules: which test shows that a rule of catalogue.txt holds, and whether it does.

    tests/rules/table.py                     writes tests/rules/RULES.md
    tests/rules/table.py --check [LOG...]    fails if RULES.md is not what would be written, if a
                                             rule has no test, or if by the LOGs, which `meson test`
                                             leaves in meson-logs/testlog.json, one did not pass

A test says by its name which rules it shows: TEST(Disconnect, R65_R67_data_goes_before_the_fin).
"""

import argparse
import json
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import results  # noqa: E402

TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(?:DISABLED_)?(\w+)\)", re.MULTILINE)
NAMED_RULES = re.compile(r"(?:R\d+_)+")
ENTRY = re.compile(r"R(\d+)\s+(.+?)(?:\s+=>\s+(.+))?")


def read_catalogue(text):
    """Returns (headings by the rule before which they stand, {rule: (text, reason or None)})."""
    headings, rules, waiting = {}, {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            waiting = line[3:]
        elif line and not line.startswith("#"):
            match = ENTRY.fullmatch(line.strip())
            if not match or int(match[1]) in rules:
                raise ValueError(f"not an entry, or a second one: {line}")
            rules[int(match[1])] = (match[2], match[3])
            if waiting:
                headings[int(match[1])] = waiting
            waiting = None
    return headings, rules


def rules_of(name):
    """R65_R67_data_goes_first -> [65, 67]"""
    match = NAMED_RULES.match(name)
    return [int(rule[1:]) for rule in match[0].split("_")[:-1]] if match else []


def find_tests(root):
    """Returns {rule: [(Suite.name, path)]} of all test sources."""
    tests = {}
    for path in sorted(root.rglob("*_test.cpp")):
        for suite, name in TEST.findall(path.read_text(encoding="utf-8")):
            for rule in rules_of(name):
                place = path.relative_to(root).as_posix()
                tests.setdefault(rule, []).append((f"{suite}.{name}", place))
    return tests


def verdict(reason, tests):
    if reason:
        return "without meaning"
    return "covered" if tests else "missing"


def write_table(headings, rules, tests):
    lines = ["# The contract, rule by rule", "",
             "Written by `tests/rules/table.py` out of `catalogue.txt` and the names of the tests;",
             "the test run checks that it is current and that each of these tests passes.", ""]
    for rule, (text, reason) in sorted(rules.items()):
        if rule in headings:
            lines += ["", f"## {headings[rule]}", "",
                      "| rule | says | verdict | tests |", "| --- | --- | --- | --- |"]
        shown = "<br>".join(f"`{name}` ({place})" for name, place in tests.get(rule, []))
        lines.append(f"| R{rule} | {text} | {verdict(reason, tests.get(rule))} "
                     f"| {reason or shown} |")
    return "\n".join(lines + ["", summary(rules, tests), ""])


def summary(rules, tests):
    counts = {"covered": 0, "without meaning": 0, "missing": 0}
    for rule, (_, reason) in rules.items():
        counts[verdict(reason, tests.get(rule))] += 1
    return (f"rules: {counts['covered']} covered, {counts['without meaning']} without meaning, "
            f"{counts['missing']} missing")


def read_outcomes(logs):
    """Returns {Suite.name: True if every run of it passed} of meson's logs."""
    outcomes = {}
    for log in logs:
        for line in pathlib.Path(log).read_text(encoding="utf-8").splitlines():
            for name, outcome in results.outcomes_of(json.loads(line)).items():
                outcomes[name] = outcomes.get(name, True) and outcome == "OK"
    return outcomes


def passed(name, outcomes):
    """A parameterized test is one when all its instances have passed."""
    suite, _, case = name.partition(".")
    instance = re.compile(rf"(?:\w+/)?{suite}\.{case}(?:/.+)?")
    runs = [outcome for run, outcome in outcomes.items() if instance.fullmatch(run)]
    return bool(runs) and all(runs)


def complaints(rules, tests, outcomes):
    for rule, (_, reason) in sorted(rules.items()):
        if not reason and not tests.get(rule):
            yield f"R{rule} has no test"
        if reason and tests.get(rule):
            yield f"R{rule} is said to have no meaning, but {tests[rule][0][0]} tests it"
    for rule in sorted(set(tests) - set(rules)):
        yield f"R{rule} is not in the catalogue, but {tests[rule][0][0]} names it"
    if outcomes is not None:
        for name in sorted({name for found in tests.values() for name, _ in found}):
            if not passed(name, outcomes):
                yield f"{name} did not run, or did not pass"


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("logs", nargs="*")
    options = parser.parse_args(arguments)
    headings, rules = read_catalogue((FOLDER / "catalogue.txt").read_text(encoding="utf-8"))
    tests = find_tests(FOLDER.parent)
    table, place = write_table(headings, rules, tests), FOLDER / "RULES.md"
    wrong = []
    if options.check:
        outcomes = read_outcomes(options.logs) if options.logs else None
        wrong = list(complaints(rules, tests, outcomes))
        if not place.exists() or place.read_text(encoding="utf-8") != table:
            wrong.append("tests/rules/RULES.md is not current: run tests/rules/table.py")
    else:
        place.write_text(table, encoding="utf-8")
    for complaint in wrong:
        print(f"  {complaint}")
    print(summary(rules, tests))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
