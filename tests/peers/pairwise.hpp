#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "base/prng.hpp"

namespace flue::peers {

/// A choice of one level for each factor.
using Choice = std::vector<unsigned>;

/// every_choice returns the full product of factors with these numbers of levels.
inline std::vector<Choice> every_choice(const std::vector<unsigned>& levels) {
    std::vector<Choice> choices{{}};
    for (const unsigned count : levels) {
        std::vector<Choice> longer;
        for (const Choice& choice : choices) {
            for (unsigned level = 0; level < count; ++level) {
                longer.push_back(choice);
                longer.back().push_back(level);
            }
        }
        choices = std::move(longer);
    }
    return choices;
}

/// pairwise returns few choices out of `possible` among which each two levels of different factors
/// that can be together are together at least once: of some drawn choices the one with the most new
/// pairs, again and again.  Always the same ones.
inline std::vector<Choice> pairwise(const std::vector<Choice>& possible) {
    using Pair          = std::tuple<size_t, unsigned, size_t, unsigned>;
    const auto pairs_of = [](const Choice& choice) {
        std::vector<Pair> pairs;
        for (size_t i = 0; i < choice.size(); ++i) {
            for (size_t j = i + 1; j < choice.size(); ++j) {
                pairs.emplace_back(i, choice[i], j, choice[j]);
            }
        }
        return pairs;
    };
    std::set<Pair> wanted;
    for (const Choice& choice : possible) {
        const auto pairs = pairs_of(choice);
        wanted.insert(pairs.begin(), pairs.end());
    }
    std::vector<Choice> chosen;
    Prng prng(1);
    while (!wanted.empty()) {
        const Choice* best = nullptr;
        size_t best_count  = 0;
        // Starting anywhere, lest the first factors be favoured among equals.
        const auto from = prng.below(static_cast<uint32_t>(possible.size()));
        for (size_t i = 0; i < possible.size(); ++i) {
            const Choice& choice = possible[(from + i) % possible.size()];
            size_t count         = 0;
            for (const Pair& pair : pairs_of(choice)) {
                count += wanted.count(pair);
            }
            if (count > best_count) {
                best       = &choice;
                best_count = count;
            }
        }
        for (const Pair& pair : pairs_of(*best)) {
            wanted.erase(pair);
        }
        chosen.push_back(*best);
    }
    return chosen;
}

}  // namespace flue::peers
