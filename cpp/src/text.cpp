#include "text.hpp"

#include "alora/error.hpp"

#include <cstdint>

namespace alora {

namespace {

// Bytes of the character that starts here, 0 if it is not a valid and complete one (RFC 3629, table of section 4).
size_t character_length(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const auto continues = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xBF) {
        return i < text.size() && byte(i) >= low && byte(i) <= high;
    };
    const uint8_t first = byte(0);
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        return continues(1) ? 2 : 0;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        const uint8_t low = first == 0xE0 ? 0xA0 : 0x80;
        const uint8_t high = first == 0xED ? 0x9F : 0xBF;
        return continues(1, low, high) && continues(2) ? 3 : 0;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        const uint8_t low = first == 0xF0 ? 0x90 : 0x80;
        const uint8_t high = first == 0xF4 ? 0x8F : 0xBF;
        return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
    }
    return 0;
}

} // namespace

size_t valid_utf8_prefix(std::string_view text) {
    size_t end = 0;
    while (end < text.size()) {
        const size_t length = character_length(text.substr(end));
        if (length == 0) {
            break;
        }
        end += length;
    }
    return end;
}

void check_utf8(std::string_view text, const std::string & what) {
    const size_t end = valid_utf8_prefix(text);
    if (end != text.size()) {
        throw ArgumentError(what + " is not valid UTF-8: byte " + std::to_string(end) + " begins no character");
    }
}

std::string as_utf8(std::string bytes) {
    return take_utf8(bytes, bytes.size(), true);
}

std::string one_line(const std::string & text) {
    std::string line;
    for (const char character : text) {
        if (character == '\n') {
            line += "\\n";
        } else if (character == '\r') {
            line += "\\r";
        } else {
            line += character;
        }
    }
    return line;
}

std::string take_utf8(std::string & held, size_t count, bool at_end) {
    constexpr size_t longest_character = 4;
    std::string taken;
    while (count > 0) {
        const std::string_view rest = std::string_view(held).substr(0, count);
        size_t whole = valid_utf8_prefix(rest);
        taken.append(rest.substr(0, whole));
        if (whole < count && !at_end && count - whole < longest_character) {
            held.erase(0, whole);
            return taken;
        }
        if (whole < count) {
            taken += "\xEF\xBF\xBD";
            ++whole;
        }
        held.erase(0, whole);
        count -= whole;
    }
    return taken;
}

} // namespace alora
