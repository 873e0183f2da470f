#include "base/index_list.hpp"

#include <array>
#include <gtest/gtest.h>

namespace flue {

namespace {

struct Element {
    uint32_t next = not_listed;
};

using List = IndexList<Element, &Element::next>;

}  // namespace

TEST(IndexList, elements_come_out_in_order_and_know_whether_they_are_listed) {
    std::array<Element, 4> elements;
    List list;
    list.push_back(elements.data(), 2);
    list.push_back(elements.data(), 0);
    list.push_front(elements.data(), 3);
    EXPECT_TRUE(List::listed(elements[0]));
    EXPECT_FALSE(List::listed(elements[1]));
    EXPECT_EQ(list.front(), 3u);
    EXPECT_EQ(list.pop_front(elements.data()), 3u);
    EXPECT_EQ(list.pop_front(elements.data()), 2u);
    EXPECT_EQ(list.pop_front(elements.data()), 0u);
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.front(), no_index);
    EXPECT_FALSE(List::listed(elements[0]));
}

TEST(IndexList, first_element_pushed_to_the_front_is_also_the_last) {
    std::array<Element, 2> elements;
    List list;
    list.push_front(elements.data(), 1);
    list.push_back(elements.data(), 0);
    EXPECT_EQ(list.pop_front(elements.data()), 1u);
    EXPECT_EQ(list.pop_front(elements.data()), 0u);
}

TEST(IndexListDeathTest, element_that_is_listed_may_not_be_listed_again) {
    std::array<Element, 2> elements;
    List list;
    list.push_back(elements.data(), 1);
    EXPECT_DEATH(list.push_back(elements.data(), 1), "listed");
}

}  // namespace flue
