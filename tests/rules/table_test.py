#!/usr/bin/env python3
"""Tests table.py: each way in which the table can be wrong is found."""

import pathlib
import tempfile
import unittest

import table

RULES = {1: ("one", None), 2: ("two", None), 3: ("three", "there is none")}
TESTS = {1: [("Suite.R1_R2_holds", "a_test.cpp")], 2: [("Suite.R1_R2_holds", "a_test.cpp")]}


class TableTest(unittest.TestCase):
    def test_names_say_which_rules_they_show(self):
        self.assertEqual(table.rules_of("R65_R67_data_goes_first", "R"), [65, 67])
        self.assertEqual(table.rules_of("data_R65_goes_first", "R"), [])
        self.assertEqual(table.rules_of("R_is_no_rule", "R"), [])
        self.assertEqual(table.rules_of("MUST_36_R90_MUST_37_probes", "MUST-"), [36, 37])
        self.assertEqual(table.rules_of("MUST_36_R90_MUST_37_probes", "R"), [90])
        self.assertEqual(table.rules_of("must_36_of_a_script", "MUST-"), [36])

    def test_sources_and_scripts_are_looked_through(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "close").mkdir()
            (root / "close" / "must_13_linger.pkt").write_text("", encoding="utf-8")
            (root / "a_test.cpp").write_text("TEST(A, MUST_13_x) {}\n", encoding="utf-8")
            self.assertEqual(table.find_tests(root, "MUST-"),
                             {13: [("A.MUST_13_x", "a_test.cpp"),
                                   ("Scripts_close.must_13_linger", "close/must_13_linger.pkt")]})
            self.assertEqual(table.find_tests(root, "R"), {})

    def test_catalogue_has_headings_rules_and_reasons(self):
        for prefix in ("R", "MUST-"):
            text = f"# no\n## Head\n{prefix}1  one\n{prefix}2  two  =>  why\n"
            headings, rules = table.read_catalogue(text, prefix)
            self.assertEqual(headings, {1: "Head"})
            self.assertEqual(rules, {1: ("one", None), 2: ("two", "why")})
        for bad in ("R1 one\nR1 again\n", "no rule\n", "MUST-1 of another\n"):
            with self.assertRaises(ValueError):
                table.read_catalogue(bad, "R")

    def test_a_sound_table_draws_no_complaint(self):
        outcomes = {"Suite.R1_R2_holds": True}
        self.assertEqual(list(table.complaints(table.CONTRACT, RULES, TESTS, outcomes)), [])
        self.assertEqual(table.summary(table.CONTRACT, RULES, TESTS),
                         "rules: 2 covered, 1 without meaning, 0 missing")
        self.assertEqual(table.summary(table.MUSTS, RULES, TESTS),
                         "RFC 9293: 2 covered, 1 without meaning, 0 missing")

    def test_a_rule_without_a_test_is_found(self):
        found = list(table.complaints(table.CONTRACT, RULES, {1: TESTS[1]}, None))
        self.assertEqual(found, ["R2 has no test"])
        self.assertIn("1 missing", table.summary(table.CONTRACT, RULES, {1: TESTS[1]}))

    def test_a_test_that_failed_or_did_not_run_is_found(self):
        for outcomes in ({"Suite.R1_R2_holds": False}, {}):
            self.assertEqual(len(list(table.complaints(table.CONTRACT, RULES, TESTS, outcomes))), 1)

    def test_every_instance_of_a_parameterized_test_counts(self):
        self.assertTrue(table.passed("S.R1_x", {"All/S.R1_x/0": True, "All/S.R1_x/1": True}))
        self.assertFalse(table.passed("S.R1_x", {"All/S.R1_x/0": True, "All/S.R1_x/1": False}))
        self.assertFalse(table.passed("S.R1_x", {"S.R1_xy": True}))

    def test_a_tested_rule_without_meaning_and_an_unknown_rule_are_found(self):
        tests = dict(TESTS)
        tests[3] = tests[4] = [("Suite.R3_R4_x", "a_test.cpp")]
        self.assertEqual(len(list(table.complaints(table.CONTRACT, RULES, tests, None))), 2)

    def test_the_table_names_each_rule_once(self):
        text = table.write_table(table.CONTRACT, {1: "Head"}, RULES, TESTS)
        for rule in RULES:
            self.assertEqual(text.count(f"| R{rule} |"), 1)
        self.assertIn("there is none", text)


if __name__ == "__main__":
    unittest.main()
