#!/usr/bin/env python3
"""The tables of rules: which test shows that a rule of a catalogue holds, and whether it does.

    tests/rules/table.py                     writes tests/rules/RULES.md
    tests/rules/table.py --check [LOG...]    fails if RULES.md is not what would be written, if a
                                             rule has no test, or if by the LOGs, which `meson test`
                                             leaves in meson-logs/testlog.json, one did not pass

A test says by its name which rules it shows: TEST(Disconnect, R65_R67_data_goes_before_the_fin),
TEST(MustWindow, MUST_36_zero_window_is_probed), or a script scripts/zero_window/must_36_probe.pkt.
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
NAMED_RULES = re.compile(r"((?:R\d+|MUST_\d+)_)+", re.IGNORECASE)
ENTRY = re.compile(r"(\S+?)(\d+)\s+(.+?)(?:\s+=>\s+(.+))?")


class Catalogue:
    """A list of rules, how they are numbered, and what its table and its last line are called."""

    def __init__(self, file, prefix, heading, name):
        self.file, self.prefix, self.heading, self.name = file, prefix, heading, name


CONTRACT = Catalogue("catalogue.txt", "R", "The contract, rule by rule", "rules")
MUSTS = Catalogue("musts.txt", "MUST-", "RFC 9293, by the numbers of appendix B", "RFC 9293")


def read_catalogue(text, prefix):
    """Returns (headings by the rule before which they stand, {rule: (text, reason or None)})."""
    headings, rules, waiting = {}, {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            waiting = line[3:]
        elif line and not line.startswith("#"):
            match = ENTRY.fullmatch(line.strip())
            if not match or match[1] != prefix or int(match[2]) in rules:
                raise ValueError(f"not an entry, or a second one: {line}")
            rules[int(match[2])] = (match[3], match[4])
            if waiting:
                headings[int(match[2])] = waiting
            waiting = None
    return headings, rules


def rules_of(name, prefix):
    """R65_R67_data_goes_first, "R" -> [65, 67]"""
    match = NAMED_RULES.match(name)
    named = re.findall(r"([A-Z]+_?)(\d+)", match[0].upper()) if match else []
    return [int(number) for word, number in named if word == prefix.replace("-", "_")]


def all_tests(root):
    """Yields (Suite.name, path) of all test sources and scripts."""
    for path in sorted(root.rglob("*_test.cpp")):
        for suite, name in TEST.findall(path.read_text(encoding="utf-8")):
            yield f"{suite}.{name}", path.relative_to(root).as_posix()
    for path in sorted(root.rglob("*.pkt")):
        yield f"Scripts_{path.parent.name}.{path.stem}", path.relative_to(root).as_posix()


def find_tests(root, prefix):
    """Returns {rule: [(Suite.name, path)]}."""
    tests = {}
    for name, place in all_tests(root):
        for rule in rules_of(name.partition(".")[2], prefix):
            tests.setdefault(rule, []).append((name, place))
    return tests


def verdict(reason, tests):
    if reason:
        return "without meaning"
    return "covered" if tests else "missing"


def write_table(catalogue, headings, rules, tests):
    lines = [f"# {catalogue.heading}", "",
             f"Written by `tests/rules/table.py` out of `{catalogue.file}` and the names of tests;",
             "the test run checks that it is current and that each of these tests passes.", ""]
    for rule, (text, reason) in rules.items():
        if rule in headings:
            lines += ["", f"## {headings[rule]}", "",
                      "| rule | says | verdict | tests |", "| --- | --- | --- | --- |"]
        shown = "<br>".join(f"`{name}` ({place})" for name, place in tests.get(rule, []))
        lines.append(f"| {catalogue.prefix}{rule} | {text} | {verdict(reason, tests.get(rule))} "
                     f"| {reason or shown} |")
    return "\n".join(lines + ["", summary(catalogue, rules, tests), ""])


def summary(catalogue, rules, tests):
    counts = {"covered": 0, "without meaning": 0, "missing": 0}
    for rule, (_, reason) in rules.items():
        counts[verdict(reason, tests.get(rule))] += 1
    return (f"{catalogue.name}: {counts['covered']} covered, {counts['without meaning']} without "
            f"meaning, {counts['missing']} missing")


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


def complaints(catalogue, rules, tests, outcomes):
    prefix = catalogue.prefix
    for rule, (_, reason) in sorted(rules.items()):
        if not reason and not tests.get(rule):
            yield f"{prefix}{rule} has no test"
        if reason and tests.get(rule):
            yield f"{prefix}{rule} is said to have no meaning, but {tests[rule][0][0]} tests it"
    for rule in sorted(set(tests) - set(rules)):
        yield f"{prefix}{rule} is not in the catalogue, but {tests[rule][0][0]} names it"
    if outcomes is not None:
        for name in sorted({name for found in tests.values() for name, _ in found}):
            if not passed(name, outcomes):
                yield f"{name} did not run, or did not pass"


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("logs", nargs="*")
    options = parser.parse_args(arguments)
    outcomes = read_outcomes(options.logs) if options.logs else None
    tables, summaries, wrong = [], [], []
    for catalogue in (CONTRACT, MUSTS):
        text = (FOLDER / catalogue.file).read_text(encoding="utf-8")
        headings, rules = read_catalogue(text, catalogue.prefix)
        tests = find_tests(FOLDER.parent, catalogue.prefix)
        tables.append(write_table(catalogue, headings, rules, tests))
        summaries.append(summary(catalogue, rules, tests))
        wrong += complaints(catalogue, rules, tests, outcomes)
    table, place = "\n".join(tables), FOLDER / "RULES.md"
    if not options.check:
        wrong = []
        place.write_text(table, encoding="utf-8")
    elif not place.exists() or place.read_text(encoding="utf-8") != table:
        wrong.append("tests/rules/RULES.md is not current: run tests/rules/table.py")
    for complaint in wrong:
        print(f"  {complaint}")
    print("\n".join(summaries))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
