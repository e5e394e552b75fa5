// UTF-8: what is whole, what may be shown, what is refused.
#include "text.hpp"

#include "alora/error.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

using namespace alora;

TEST_CASE("a valid prefix ends before the first byte that begins no character") {
    const std::vector<std::pair<std::string, size_t>> cases = {
        {"", 0},
        {"abc", 3},
        {"\xC3\xA9", 2},
        {"\xE2\x98\x83", 3},
        {"\xF0\x9F\x98\x80", 4},
        {"a\xC3", 1},            // begun
        {"a\xE2\x98", 1},        // begun
        {"\xF0\x9F\x98", 0},     // begun
        {"\x80", 0},             // a continuation alone
        {"\xC0\x80", 0},         // overlong
        {"\xC1\xBF", 0},         // overlong
        {"\xE0\x9F\xBF", 0},     // overlong
        {"\xE0\xA0\x80", 3},     // the first of three bytes
        {"\xED\x9F\xBF", 3},     // the last before the surrogates
        {"\xED\xA0\x80", 0},     // a surrogate
        {"\xEE\x80\x80", 3},     // the first behind them
        {"\xF0\x8F\xBF\xBF", 0}, // overlong
        {"\xF4\x8F\xBF\xBF", 4}, // the last character
        {"\xF4\x90\x80\x80", 0}, // behind it
        {"\xF5\x80\x80\x80", 0}, // behind it
        {"\xFF", 0},
        {std::string("a\0b", 3), 3},
    };
    for (const auto & [text, expected] : cases) {
        CAPTURE(text);
        CHECK(valid_utf8_prefix(text) == expected);
    }
}

TEST_CASE("every encoded character is valid, and none of its beginnings is") {
    for (unsigned code = 0x80; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 101) {
        std::string text;
        if (code < 0x800) {
            text = {static_cast<char>(0xC0 | code >> 6U), static_cast<char>(0x80 | (code & 0x3FU))};
        } else if (code < 0x10000) {
            text = {static_cast<char>(0xE0 | code >> 12U), static_cast<char>(0x80 | (code >> 6U & 0x3FU)),
                    static_cast<char>(0x80 | (code & 0x3FU))};
        } else {
            text = {static_cast<char>(0xF0 | code >> 18U), static_cast<char>(0x80 | (code >> 12U & 0x3FU)),
                    static_cast<char>(0x80 | (code >> 6U & 0x3FU)), static_cast<char>(0x80 | (code & 0x3FU))};
        }
        const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        CAPTURE(code);
        REQUIRE(valid_utf8_prefix(text) == (surrogate ? 0 : text.size()));
        REQUIRE(valid_utf8_prefix(text.substr(0, text.size() - 1)) == 0);
    }
}

TEST_CASE("invalid text is refused with its place") {
    CHECK_NOTHROW(check_utf8("h\xC3\xA9", "the text"));
    CHECK_THROWS_WITH_AS(check_utf8("ab\xFF", "the text"), doctest::Contains("byte 2"), ArgumentError);
}

TEST_CASE("text from a file becomes valid") {
    CHECK(as_utf8("plain") == "plain");
    CHECK(as_utf8("a\xFF\xC3") == "a\xEF\xBF\xBD\xEF\xBF\xBD");
    CHECK(one_line("a\nb\r\n") == "a\\nb\\r\\n");
}

TEST_CASE("text is taken in whole characters, however its bytes arrive") {
    const std::string text = "h\xC3\xA9llo \xE2\x98\x83 \xF0\x9F\x98\x80!";
    for (size_t step = 1; step <= text.size(); ++step) {
        std::string held;
        std::string shown;
        for (size_t at = 0; at < text.size(); at += step) {
            held += text.substr(at, step);
            const std::string taken = take_utf8(held, held.size(), false);
            CHECK(valid_utf8_prefix(taken) == taken.size());
            shown += taken;
        }
        CHECK(shown == text);
        CHECK(held.empty());
    }
}

TEST_CASE("a character that stays incomplete is replaced at the end only") {
    std::string held = "ab\xE2\x98";
    CHECK(take_utf8(held, held.size(), false) == "ab");
    CHECK(held == "\xE2\x98");
    CHECK(take_utf8(held, held.size(), true) == "\xEF\xBF\xBD\xEF\xBF\xBD");
    CHECK(held.empty());
}

TEST_CASE("only the asked count of bytes is taken") {
    std::string held = "abcdef";
    CHECK(take_utf8(held, 2, false) == "ab");
    CHECK(held == "cdef");
    CHECK(take_utf8(held, 0, true).empty());
}
