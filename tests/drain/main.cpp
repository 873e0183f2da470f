#include <gtest/gtest.h>
#include <iostream>

#include "rig.hpp"
#include "sender.hpp"
#include "testbed/namespace.hpp"

/// Usage: PROGRAM [GoogleTest options] FLUED FLUE EXAMPLE-IN-C PYTHON EXAMPLE-IN-PYTHON
int main(int argc, char** argv) {
    flue::testbed::enter_bottle();
    testing::InitGoogleTest(&argc, argv);
    if (argc != 6) {
        std::cerr << "usage: " << argv[0]
                  << " [GoogleTest options] FLUED FLUE EXAMPLE-IN-C PYTHON EXAMPLE-IN-PYTHON\n";
        return 2;
    }
    flue::e2e::flued_program    = argv[1];
    flue::e2e::flue_program     = argv[2];
    flue::drain::c_example      = argv[3];
    flue::drain::python         = argv[4];
    flue::drain::python_example = argv[5];
    return RUN_ALL_TESTS();
}
