#include <gtest/gtest.h>
#include <iostream>

#include "rig.hpp"
#include "testbed/namespace.hpp"

/// Usage: PROGRAM [GoogleTest options] PATH-OF-FLUED PATH-OF-FLUE
int main(int argc, char** argv) {
    flue::testbed::enter_bottle();
    testing::InitGoogleTest(&argc, argv);
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " [GoogleTest options] PATH-OF-FLUED PATH-OF-FLUE\n";
        return 2;
    }
    flue::e2e::flued_program = argv[1];
    flue::e2e::flue_program  = argv[2];
    return RUN_ALL_TESTS();
}
