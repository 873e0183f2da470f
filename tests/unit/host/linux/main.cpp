#include <gtest/gtest.h>

#include "testbed/namespace.hpp"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    flue::testbed::enter_bottle();
    return RUN_ALL_TESTS();
}
