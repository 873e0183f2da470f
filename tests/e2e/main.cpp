#include <gtest/gtest.h>
#include <iostream>

#include "rig.hpp"
#include "testbed/namespace.hpp"

/// Usage: PROGRAM [GoogleTest options] PATH-OF-FLUED
int main(int argc, char** argv) {
    flue::testbed::enter_bottle();
    testing::InitGoogleTest(&argc, argv);
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " [GoogleTest options] PATH-OF-FLUED\n";
        return 2;
    }
    flue::e2e::flued_program = argv[1];
    return RUN_ALL_TESTS();
}
