#!/usr/bin/env python3
"""results.py counts cases as they ended, whatever the program's last words were."""

import unittest

import results


def count(result, *lines):
    passed, failed, skipped = results.count_test(
        {"name": "t", "result": result, "stdout": "\n".join(("[==========] Running",) + lines)})
    return passed, len(failed), skipped


class Count(unittest.TestCase):
    def test_cases_are_counted_by_their_outcome(self):
        lines = ("[ RUN      ] A.a", "[       OK ] A.a (0 ms)",
                 "[ RUN      ] A.b/0", "[  FAILED  ] A.b/0, where GetParam() = (1, 2) (3 ms)",
                 "[ RUN      ] A.c", "[  SKIPPED ] A.c (0 ms)",
                 "[  FAILED  ] A.b/0, where GetParam() = (1, 2)", "1 FAILED TEST")
        self.assertEqual(count("FAIL", *lines), (1, 1, 1))

    def test_case_that_never_ended_has_failed(self):
        lines = ("[ RUN      ] A.a", "[       OK ] A.a (0 ms)", "[ RUN      ] A.b")
        self.assertEqual(count("TIMEOUT", *lines), (1, 1, 0))

    def test_program_that_fails_after_its_last_case_has_failed(self):
        lines = ("[ RUN      ] A.a", "[       OK ] A.a (0 ms)", "ERROR: LeakSanitizer")
        self.assertEqual(count("FAIL", *lines), (1, 1, 0))

    def test_program_without_cases_counts_as_one(self):
        for result, expected in (("OK", (1, 0, 0)), ("FAIL", (0, 1, 0)), ("TIMEOUT", (0, 1, 0)),
                                 ("INTERRUPT", (0, 1, 0)), ("SKIP", (0, 0, 1))):
            passed, failed, skipped = results.count_test({"name": "t", "result": result})
            self.assertEqual((passed, len(failed), skipped), expected, result)

    def test_googletest_program_that_ran_nothing_counts_as_none(self):
        self.assertEqual(count("OK"), (0, 0, 0))


if __name__ == "__main__":
    unittest.main()
