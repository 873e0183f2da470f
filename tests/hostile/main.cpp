#include <gtest/gtest.h>
#include <iostream>

#include "attacks.hpp"
#include "rig.hpp"
#include "testbed/namespace.hpp"

namespace flue::hostile {

std::string hostile_program;

}  // namespace flue::hostile

/// Usage: PROGRAM [GoogleTest options] PATH-OF-FLUED PATH-OF-FLUE PATH-OF-HOSTILE-HOST
int main(int argc, char** argv) {
    flue::testbed::enter_bottle();
    testing::InitGoogleTest(&argc, argv);
    if (argc != 4) {
        std::cerr << "usage: " << argv[0]
                  << " [GoogleTest options] PATH-OF-FLUED PATH-OF-FLUE PATH-OF-HOSTILE-HOST\n";
        return 2;
    }
    flue::e2e::flued_program       = argv[1];
    flue::e2e::flue_program        = argv[2];
    flue::hostile::hostile_program = argv[3];
    return RUN_ALL_TESTS();
}
