// Plays every script of a folder: `scripts FOLDER [GoogleTest's options]`.  Each is a test case,
// once with small sequence numbers and once with such that both sides soon begin again at 0.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

#include "player.hpp"

namespace flue::scripts {

namespace {

constexpr Isn small{0, 0};
constexpr Isn at_wrap{0xffff'f000, 0xffff'ff00};

class ScriptTest : public testing::Test {
  public:
    ScriptTest(std::filesystem::path file, std::string name, Isn isn)
        : file_(std::move(file)), name_(std::move(name)), isn_(isn) {}

    void TestBody() override {
        std::ifstream stream(file_);
        std::ostringstream text;
        text << stream.rdbuf();
        ASSERT_TRUE(text.str().starts_with("// ")) << name_ << " does not say what it shows";
        const Script script = Script::parse(name_, text.str());
        if (const auto complaint = play(script, isn_)) {
            FAIL() << *complaint;
        }
    }

  private:
    std::filesystem::path file_;
    std::string name_;
    Isn isn_;
};

void add(const std::filesystem::path& file, const std::string& suffix, Isn isn) {
    const std::string area = file.parent_path().filename();
    const std::string name = file.stem();
    testing::RegisterTest(
        ("Scripts_" + area).c_str(),
        (name + suffix).c_str(),
        nullptr,
        nullptr,
        file.c_str(),
        1,
        [=]() -> testing::Test* { return new ScriptTest(file, area + "/" + name + ".pkt", isn); });
}

}  // namespace

}  // namespace flue::scripts

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 1;
    }
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[1])) {
        if (entry.path().extension() == ".pkt") {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        flue::scripts::add(file, "", flue::scripts::small);
        flue::scripts::add(file, "_at_wrap", flue::scripts::at_wrap);
    }
    return RUN_ALL_TESTS();
}
