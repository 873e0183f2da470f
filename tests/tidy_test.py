#!/usr/bin/env python3
"""tidy.py finds what it is for, and only that."""

import pathlib
import unittest

import tidy


def problems(path, text):
    return [problem for _, problem in tidy.check_file(pathlib.PurePath(path), text)]


def header(body):
    return "#pragma once\n" + body


def function_of(lines, head="int f(int a)"):
    return head + " {\n" + "    a();\n" * (lines - 2) + "}\n"


class Includes(unittest.TestCase):
    def found(self, path, include):
        return problems(path, f"#include {include}\n")

    def test_layer_above_is_an_error(self):
        self.assertTrue(self.found("lib/wire/a.cpp", '"tcp/engine.hpp"'))
        self.assertTrue(self.found("lib/queue/a.cpp", '"tcp/engine.hpp"'))
        self.assertTrue(self.found("lib/host/linux/a.cpp", '"wire/frame.hpp"'))
        self.assertTrue(self.found("lib/target/a.cpp", '"host/session.hpp"'))

    def test_layer_below_and_own_are_fine(self):
        self.assertFalse(self.found("lib/tcp/a.cpp", '"wire/frame.hpp"'))
        self.assertFalse(self.found("lib/host/linux/a.cpp", '"host/linux/b.hpp"'))
        self.assertFalse(self.found("lib/target/a.cpp", '"chimney/chimney.hpp"'))

    def test_dpdk_where_it_may_not_be_is_an_error(self):
        for layer in ("base", "wire", "tcp", "chimney", "host"):
            self.assertTrue(self.found(f"lib/{layer}/a.cpp", "<rte_ring.h>"), layer)
        self.assertTrue(self.found("lib/queue/a.cpp", "<rte_mbuf.h>"))
        self.assertTrue(self.found("lib/queue/a.cpp", "<rte_eal.h>"))
        self.assertTrue(self.found("include/flue/flue.h", "<rte_ring.h>"))

    def test_dpdk_where_it_belongs_is_fine(self):
        self.assertFalse(self.found("lib/queue/a.cpp", "<rte_ring_elem.h>"))
        self.assertFalse(self.found("lib/target/a.cpp", "<rte_ethdev.h>"))
        self.assertFalse(self.found("app/flued/main.cpp", "<rte_eal.h>"))

    def test_public_headers_below_the_contract_are_an_error(self):
        self.assertTrue(self.found("lib/tcp/a.cpp", '"flue/abi.h"'))
        self.assertTrue(self.found("lib/chimney/a.cpp", '"flue/flue.h"'))
        self.assertFalse(self.found("lib/chimney/a.cpp", '"flue/abi.h"'))

    def test_path_without_its_layer_is_an_error(self):
        self.assertTrue(self.found("lib/tcp/a.cpp", '"engine.hpp"'))
        self.assertTrue(self.found("lib/tcp/a.cpp", '"../wire/frame.hpp"'))

    def test_cassert_and_impure_headers_are_errors(self):
        self.assertTrue(self.found("lib/target/a.cpp", "<cassert>"))
        self.assertTrue(self.found("lib/host/a.cpp", "<linux/tcp.h>"))
        self.assertTrue(self.found("lib/tcp/a.cpp", "<chrono>"))
        self.assertTrue(self.found("lib/tcp/a.cpp", "<random>"))
        self.assertFalse(self.found("lib/target/a.cpp", "<thread>"))

    def test_indented_directive_is_seen(self):
        self.assertTrue(problems("lib/tcp/a.cpp", "  #  include <rte_ring.h>\n"))


class Lines(unittest.TestCase):
    def test_101_characters_are_too_many_and_100_are_not(self):
        self.assertTrue(problems("app/a.sh", "x" * 101 + "\n"))
        self.assertFalse(problems("app/a.sh", "§" * 100 + "\n"))

    def test_work_left_for_later_is_an_error(self):
        for word in ("TO" + "DO", "FIX" + "ME"):
            self.assertTrue(problems("lib/tcp/a.cpp", f"// {word}: more\n"))

    def test_header_without_guard_is_an_error(self):
        self.assertTrue(problems("lib/tcp/a.hpp", "int a;\n"))
        self.assertFalse(problems("lib/tcp/a.hpp", header("int a;\n")))
        self.assertTrue(problems("include/flue/a.h", "int a;\n"))
        guard = "#ifndef FLUE_A_H\n#define FLUE_A_H\n#endif\n"
        self.assertFalse(problems("include/flue/a.h", guard))


class Citations(unittest.TestCase):
    def found(self, text):
        return problems("lib/tcp/a.cpp", f"// {text}\n")

    def test_forms_that_parse_are_fine(self):
        for text in ("RFC 9293 §3.10.7.4 step 5", "RFC 6298 (5.1)", "RFC 9293's words", "RFC 2018",
                     "RFC 7323 §A.2", "RFC 7323 appendix A"):
            self.assertFalse(self.found(text), text)

    def test_forms_that_do_not_parse_are_errors(self):
        for text in ("X9293 §3.4", "X-9293", "X 9293 section 3.4", "X 9293, Section 3",
                     "X 9293 § 3.4", "X 9293§3.4", "X  9293"):
            text = text.replace("X", "RF" + "C")
            self.assertTrue(self.found(text), text)
        self.assertTrue(self.found("rf" + "c 9293"))


class Lengths(unittest.TestCase):
    def found(self, text):
        return problems("lib/tcp/a.cpp", text)

    def test_71_lines_are_too_many_and_70_are_not(self):
        self.assertTrue(self.found(function_of(71)))
        self.assertFalse(self.found(function_of(70)))

    def test_functions_of_every_form_are_measured(self):
        heads = ("bool Engine::run(int a) const noexcept",
                 "Engine::Engine(int a) : a_(a), b_{a}",
                 "auto f(int a) -> std::vector<int>",
                 "template <typename T>\nvoid f(T a)",
                 "static struct flue_x* f(void)",
                 "TEST(Suite, name)")
        for head in heads:
            self.assertTrue(self.found(function_of(80, head)), head)
            self.assertTrue(self.found("namespace x {\n" + function_of(80, head) + "}\n"), head)
        self.assertTrue(self.found("class A {\n  public:\n" + function_of(80) + "};\n"))

    def test_namespaces_classes_and_tables_are_not_functions(self):
        body = "    a,\n" * 80
        for head in ("namespace x", "struct A", "enum class B : int", "struct alignas(64) A",
                     "const std::array<int, f(3)> a =", 'extern "C"'):
            self.assertFalse(self.found(head + " {\n" + body + "};\n"), head)

    def test_braces_in_strings_and_comments_do_not_count(self):
        text = 'int f() {\n    // }\n    a("{", \'}\');  /* } */\n' + "    a();\n" * 70 + "}\n"
        self.assertTrue(self.found(text))

    def test_two_functions_are_measured_apart(self):
        self.assertFalse(self.found(function_of(60) + "\n" + function_of(60)))

    def test_file_over_600_lines_is_an_error_in_lib(self):
        self.assertTrue(self.found("int a;\n" * 601))
        self.assertFalse(problems("tests/unit/tcp/a_test.cpp", "int a;\n" * 601))


class Mirror(unittest.TestCase):
    def found(self, *names, untested=()):
        paths = {pathlib.PurePath(name) for name in names}
        return list(tidy.check_tests(paths, set(untested)))

    def test_file_without_test_is_an_error(self):
        self.assertTrue(self.found("lib/tcp/a.cpp"))
        self.assertTrue(self.found("lib/tcp/a.cpp", "tests/unit/wire/a_test.cpp"))
        self.assertFalse(self.found("lib/tcp/a.cpp", "tests/unit/tcp/a_test.cpp"))
        self.assertFalse(self.found("lib/host/linux/a.cpp", "tests/unit/host/linux/a_test.cpp"))

    def test_reason_stands_for_a_test_until_there_is_one(self):
        self.assertFalse(self.found("lib/tcp/a.cpp", untested=["lib/tcp/a.cpp"]))
        self.assertTrue(
            self.found("lib/tcp/a.cpp", "tests/unit/tcp/a_test.cpp", untested=["lib/tcp/a.cpp"]))
        self.assertTrue(self.found(untested=["lib/tcp/gone.cpp"]))


if __name__ == "__main__":
    unittest.main()
