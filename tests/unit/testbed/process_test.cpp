#include "testbed/process.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <thread>
#include <unistd.h>

namespace flue::testbed {
namespace {

using namespace std::chrono_literals;

TEST(Child, call_reports_lines_and_ends_with_0) {
    Child child = Child::call([](const Report& report) {
        report.line("first");
        report.line("second");
    });
    EXPECT_EQ(child.line(10s), "first");
    const auto exit = child.wait();
    EXPECT_TRUE(exit.ok());
    EXPECT_EQ(exit.output, "second\n");
}

TEST(Child, exception_ends_it_with_1_and_its_text) {
    const auto exit =
        Child::call([](const Report&) { throw std::runtime_error("no luck"); }).wait();
    EXPECT_EQ(exit.code, 1);
    EXPECT_EQ(exit.output, "no luck\n");
}

TEST(Child, signalled_child_says_so) {
    Child child = Child::call([](const Report&) { ::pause(); });
    child.signal(SIGKILL);
    EXPECT_EQ(to_string(child.wait()), "killed by signal 9");
}

TEST(Child, wait_kills_what_does_not_end) {
    Child child = Child::call([](const Report&) { ::pause(); });
    EXPECT_THROW(child.wait(20ms), std::runtime_error);
}

TEST(Child, missing_program_is_named) {
    try {
        run_tool({"no-such-program-here"});
        FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
        EXPECT_NE(std::string(error.what()).find("no-such-program-here: No such file"),
                  std::string::npos)
            << error.what();
    }
}

/// A parent is killed while its child sleeps; the grandchild's end of the pipe closes only when it
/// dies too.
TEST(Child, killed_parent_takes_its_child_along) {
    Child parent           = Child::call([](const Report& report) {
        const Child child = Child::call([](const Report&) { ::pause(); });
        report.line(std::to_string(child.pid()));
        ::pause();
    });
    const pid_t grandchild = std::stoi(parent.line(10s).value());
    ASSERT_EQ(::kill(grandchild, 0), 0);
    parent.signal(SIGKILL);
    EXPECT_EQ(parent.wait().signal, SIGKILL);
    for (int i = 0; i < 1000 && ::kill(grandchild, 0) == 0; ++i) {
        std::this_thread::sleep_for(5ms);
    }
    EXPECT_NE(::kill(grandchild, 0), 0) << "process " << grandchild << " is still there";
}

TEST(RunTool, returns_what_the_program_wrote) {
    EXPECT_EQ(run_tool({"echo", "a", "b"}), "a b\n");
}

}  // namespace
}  // namespace flue::testbed
