#include "alora/identity.hpp"

#include <algorithm>
#include <cctype>
#include <set>

namespace alora {

namespace {

// Lower-case words of letters, digits and the dots of version numbers, without the organization.
std::set<std::string> words_of(std::string_view name) {
    name.remove_prefix(std::min(name.size(), name.rfind('/') + 1));
    std::set<std::string> words;
    std::string word;
    const auto finish = [&] {
        while (!word.empty() && word.back() == '.') {
            word.pop_back();
        }
        if (!word.empty()) {
            words.insert(word);
            word.clear();
        }
    };
    for (const char character : name) {
        const auto byte = static_cast<unsigned char>(character);
        if (std::isalnum(byte) != 0 || byte >= 0x80 || (character == '.' && !word.empty())) {
            word += static_cast<char>(std::tolower(byte));
        } else {
            finish();
        }
    }
    finish();
    return words;
}

bool contains(const std::set<std::string> & all, const std::set<std::string> & some) {
    return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

} // namespace

bool names_match(std::string_view base, const std::vector<std::string> & names) {
    const std::set<std::string> wanted = words_of(base);
    bool compared = false;
    for (const std::string & name : names) {
        const std::set<std::string> words = words_of(name);
        if (wanted.empty() || words.empty()) {
            continue;
        }
        if (contains(wanted, words) || contains(words, wanted)) {
            return true;
        }
        compared = true;
    }
    return !compared;
}

} // namespace alora
