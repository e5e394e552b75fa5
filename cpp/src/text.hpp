// Checks on text from outside.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace alora {

// The length of the longest prefix that is whole, valid UTF-8 characters. What follows it is either invalid or the
// start of a character that is not complete yet.
size_t valid_utf8_prefix(std::string_view text);

// Throws ArgumentError naming `what` and the byte where it goes wrong, unless all of the text is valid UTF-8.
void check_utf8(std::string_view text, const std::string & what);

// The text with U+FFFD for bytes that begin no character: files may hold anything where text should be.
std::string as_utf8(std::string bytes);

// The text with its line breaks spelled out, as an error message shows it.
std::string one_line(const std::string & text);

// Takes what can be shown from the first `count` bytes of `held`: whole characters, and U+FFFD for bytes that begin
// none. The start of a character that may still be completed stays, unless this is the end.
std::string take_utf8(std::string & held, size_t count, bool at_end);

} // namespace alora
