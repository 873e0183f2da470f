#!/usr/bin/env python3
"""Tests table.py: each way in which the table can be wrong is found."""

import unittest

import table

RULES = {1: ("one", None), 2: ("two", None), 3: ("three", "there is none")}
TESTS = {1: [("Suite.R1_R2_holds", "a_test.cpp")], 2: [("Suite.R1_R2_holds", "a_test.cpp")]}


class TableTest(unittest.TestCase):
    def test_names_say_which_rules_they_show(self):
        self.assertEqual(table.rules_of("R65_R67_data_goes_first"), [65, 67])
        self.assertEqual(table.rules_of("data_R65_goes_first"), [])
        self.assertEqual(table.rules_of("R_is_no_rule"), [])

    def test_catalogue_has_headings_rules_and_reasons(self):
        headings, rules = table.read_catalogue("# no\n## Head\nR1  one\nR2  two  =>  why\n")
        self.assertEqual(headings, {1: "Head"})
        self.assertEqual(rules, {1: ("one", None), 2: ("two", "why")})
        for bad in ("R1 one\nR1 again\n", "no rule\n"):
            with self.assertRaises(ValueError):
                table.read_catalogue(bad)

    def test_a_sound_table_draws_no_complaint(self):
        outcomes = {"Suite.R1_R2_holds": True}
        self.assertEqual(list(table.complaints(RULES, TESTS, outcomes)), [])
        self.assertEqual(table.summary(RULES, TESTS),
                         "rules: 2 covered, 1 without meaning, 0 missing")

    def test_a_rule_without_a_test_is_found(self):
        found = list(table.complaints(RULES, {1: TESTS[1]}, None))
        self.assertEqual(found, ["R2 has no test"])
        self.assertIn("1 missing", table.summary(RULES, {1: TESTS[1]}))

    def test_a_test_that_failed_or_did_not_run_is_found(self):
        for outcomes in ({"Suite.R1_R2_holds": False}, {}):
            self.assertEqual(len(list(table.complaints(RULES, TESTS, outcomes))), 1)

    def test_every_instance_of_a_parameterized_test_counts(self):
        self.assertTrue(table.passed("S.R1_x", {"All/S.R1_x/0": True, "All/S.R1_x/1": True}))
        self.assertFalse(table.passed("S.R1_x", {"All/S.R1_x/0": True, "All/S.R1_x/1": False}))
        self.assertFalse(table.passed("S.R1_x", {"S.R1_xy": True}))

    def test_a_tested_rule_without_meaning_and_an_unknown_rule_are_found(self):
        tests = dict(TESTS)
        tests[3] = tests[4] = [("Suite.R3_R4_x", "a_test.cpp")]
        self.assertEqual(len(list(table.complaints(RULES, tests, None))), 2)

    def test_the_table_names_each_rule_once(self):
        text = table.write_table({1: "Head"}, RULES, TESTS)
        for rule in RULES:
            self.assertEqual(text.count(f"| R{rule} |"), 1)
        self.assertIn("there is none", text)


if __name__ == "__main__":
    unittest.main()
