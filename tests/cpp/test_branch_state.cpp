// Branches saved and restored, rows dropped.
#include "branch_handle.hpp"
#include "support.hpp"

#include <cstdint>

using namespace alora;
using namespace alora::test;

namespace {

using Bytes = std::vector<uint8_t>;

std::vector<Token> slice(const std::vector<Token> & tokens, int begin, int end) {
    return {tokens.begin() + begin, tokens.begin() + end};
}

std::shared_ptr<Branch> branch_of(const std::shared_ptr<Context> & context, const std::vector<Token> & tokens) {
    const auto branch = context->branch();
    branch->append(tokens);
    context->decode();
    return branch;
}

std::vector<float> next_logits(const std::shared_ptr<Context> & context, const std::shared_ptr<Branch> & branch,
                               Token token) {
    branch->append({token});
    context->decode();
    return branch->logits();
}

// Cells that llama.cpp holds for any sequence; ours counts rows.
int n_llama_cells(const std::shared_ptr<Context> & context) {
    const llama_context * llama = context->state().llama.get();
    int n = 0;
    for (llama_seq_id seq = 0; seq < 256; ++seq) {
        const llama_memory_t memory = llama_get_memory(llama);
        if (const llama_pos last = llama_memory_seq_pos_max(memory, seq); last >= 0) {
            n += last - llama_memory_seq_pos_min(memory, seq) + 1;
        }
    }
    return n;
}

} // namespace

TEST_CASE("a restored branch goes on to the bit") {
    const auto context = open_context();
    const auto branch = branch_of(context, some_tokens(20));
    const Bytes saved = branch->save();
    const auto other = open_context();
    const auto restored = other->restore(saved);
    CHECK(restored->tokens() == branch->tokens());
    CHECK(restored->n_queued() == 0);
    CHECK(restored->kv_bytes() == branch->kv_bytes());
    CHECK(restored->save() == saved);
    CHECK(other->n_cells_used() == 20);
    CHECK(other->n_branches() == 1);
    CHECK(other->counters().rows_decoded == 0);
    const Token token = some_tokens(1, 2).front();
    CHECK(next_logits(other, restored, token) == next_logits(context, branch, token));
    CHECK(distance(other->restore(saved)->logits(), fresh_logits(some_tokens(20))) < close);
}

TEST_CASE("a branch without rows can be saved") {
    const auto context = open_context();
    const auto restored = context->restore(context->branch()->save());
    CHECK(restored->length() == 0);
    restored->append(some_tokens(5));
    context->decode();
    CHECK(distance(restored->logits(), fresh_logits(some_tokens(5))) < close);
}

TEST_CASE("any branch can be saved, not the first one alone, and saving leaves no trace") {
    const auto context = open_context();
    const auto quiet = open_context();
    std::vector<std::shared_ptr<Branch>> branches;
    std::vector<std::shared_ptr<Branch>> untouched;
    for (unsigned i = 0; i < 5; ++i) {
        branches.push_back(branch_of(context, some_tokens(10, i)));
        untouched.push_back(branch_of(quiet, some_tokens(10, i)));
    }
    branches[0]->close(); // one below the others is free
    untouched[0]->close();
    for (unsigned i = 1; i < 5; ++i) {
        const auto other = open_context();
        const auto restored = other->restore(branches[i]->save());
        CHECK(restored->tokens() == some_tokens(10, i));
        CHECK(distance(restored->logits(), fresh_logits(some_tokens(10, i))) < close);
    }
    CHECK(context->n_cells_used() == 40);
    CHECK(n_llama_cells(context) == 40);
    for (unsigned i = 1; i < 5; ++i) {
        CHECK(branches[i]->kv_bytes() == untouched[i]->kv_bytes());
        const Token token = some_tokens(1, 9).front();
        CHECK(next_logits(context, branches[i], token) == next_logits(quiet, untouched[i], token));
    }
}

TEST_CASE("a fork of a fork is saved with all that it shares, and with nothing else") {
    const auto context = open_context();
    const std::vector<Token> t = some_tokens(60);
    auto trunk = branch_of(context, slice(t, 0, 30));
    auto fork = trunk->fork(12);
    fork->append(slice(t, 30, 45));
    auto last = fork->fork(20);
    SUBCASE("with rows of its own") {
        last->append(slice(t, 45, 50));
    }
    SUBCASE("with none") {}
    SUBCASE("where the trunk is closed") {
        trunk->close();
    }
    SUBCASE("where both are closed") {
        last->append(slice(t, 45, 50));
        trunk->close();
        fork->close();
    }
    SUBCASE("where a sibling shares the closed trunk") {
        const auto sibling = trunk->fork(25);
        trunk->close();
        sibling->append(slice(t, 50, 53));
        trunk = sibling; // stays open
    }
    SUBCASE("where it forks at the beginning of its parent") {
        last = fork->fork(12);
        last->append(slice(t, 45, 50));
    }
    context->decode();
    const Bytes saved = last->save();
    // As many bytes as a branch that never forked.
    const auto plain_context = open_context();
    const auto plain = branch_of(plain_context, last->tokens());
    CHECK(saved.size() == plain->save().size());
    ContextOptions options;
    options.n_ctx = last->length() + 1;
    options.n_threads = 1;
    options.kv_type = "f32";
    options.flash_attention = "off";
    const auto other = Context::create(model(), options);
    const auto restored = other->restore(saved);
    CHECK(restored->tokens() == last->tokens());
    CHECK(other->n_cells_used() == last->length());
    CHECK(n_llama_cells(other) == last->length());
    CHECK(distance(restored->logits(), fresh_logits(last->tokens())) < close);
    CHECK(distance(next_logits(other, restored, t[59]), next_logits(context, last, t[59])) < close);
    // What is restored into forks again.
    const auto again = restored->fork(5);
    restored->close();
    again->append({t[58]});
    other->decode();
    CHECK(distance(again->logits(), fresh_logits(again->tokens())) < close);
}

TEST_CASE("restored beside others, a branch is read by none of them") {
    const auto context = open_context();
    const auto trunk = branch_of(context, some_tokens(30));
    const Bytes saved = trunk->save();
    const auto fork = trunk->fork(10);
    const auto restored = context->restore(saved);
    fork->append(some_tokens(4, 3));
    restored->append(some_tokens(4, 4));
    context->decode();
    CHECK(context->n_cells_used() == 30 + 4 + 34);
    for (const auto & branch : {trunk, fork, restored}) {
        CHECK(distance(branch->logits(), fresh_logits(branch->tokens())) < close);
    }
    restored->close();
    CHECK(n_llama_cells(context) == 34);
}

TEST_CASE("queued rows cannot be saved, shared ones neither") {
    const auto context = open_context();
    const auto trunk = context->branch();
    trunk->append(some_tokens(10));
    const auto fork = trunk->fork(5);
    CHECK(fork->n_queued() == 0);
    CHECK_THROWS_AS(trunk->save(), PositionError);
    CHECK_THROWS_AS(fork->save(), PositionError);
    const auto before = trunk->fork(0);
    CHECK_NOTHROW(before->save());
    context->decode();
    trunk->append(some_tokens(3, 2));
    CHECK_THROWS_AS(trunk->save(), PositionError);
    CHECK_NOTHROW(fork->save()); // the trunk's new rows are none of its own
}

TEST_CASE("damaged bytes are refused wherever they are damaged") {
    const auto context = open_context(64, 4);
    const auto trunk = branch_of(context, some_tokens(30));
    const auto kv = trunk->kv_bytes();
    Bytes saved = branch_of(open_context(64, 4), some_tokens(2))->save();
    REQUIRE(saved.size() < 50000);
    for (size_t size = 0; size < saved.size(); ++size) {
        CHECK_THROWS_AS(context->restore({saved.begin(), saved.begin() + static_cast<ptrdiff_t>(size)}), ArgumentError);
    }
    for (uint8_t & byte : saved) {
        for (const unsigned bits : {0x01U, 0x80U, 0xffU}) {
            const auto right = byte;
            byte = static_cast<uint8_t>(byte ^ bits);
            CHECK_THROWS_AS(context->restore(saved), ArgumentError);
            byte = right;
        }
    }
    saved.push_back(0);
    CHECK_THROWS_AS(context->restore(saved), ArgumentError);
    saved.pop_back();
    CHECK_THROWS_AS(context->restore({}), ArgumentError);
    CHECK(context->n_branches() == 1);
    CHECK(context->n_cells_used() == 30);
    CHECK(n_llama_cells(context) == 30);
    CHECK(trunk->kv_bytes() == kv);
    CHECK(distance(context->restore(saved)->logits(), fresh_logits(some_tokens(2))) < close);
}

TEST_CASE("another kind of cache is refused") {
    const Bytes saved = branch_of(open_context(), some_tokens(10))->save();
    for (const auto & [kv_type, flash_attention] : {std::pair("f16", "off"), std::pair("f32", "on")}) {
        ContextOptions options;
        options.n_ctx = 256;
        options.n_threads = 1;
        options.kv_type = kv_type;
        options.flash_attention = flash_attention;
        const auto context = Context::create(model(), options);
        CHECK_THROWS_AS(context->restore(saved), ArgumentError);
        CHECK(context->n_branches() == 0);
        CHECK(context->n_cells_used() == 0);
        CHECK(n_llama_cells(context) == 0);
        const auto branch = branch_of(context, some_tokens(10));
        CHECK(context->restore(branch->save())->tokens() == some_tokens(10));
    }
}

TEST_CASE("a context without room says so and can be used on") {
    const Bytes saved = branch_of(open_context(), some_tokens(40))->save();
    const auto context = open_context(64, 2);
    const auto branch = branch_of(context, some_tokens(25));
    CHECK_THROWS_AS(context->restore(saved), ContextFullError);
    CHECK(context->n_cells_used() == 25);
    const auto other = context->branch();
    branch->close();
    CHECK_NOTHROW(context->restore(saved));
    const auto again = context->branch();
    CHECK_THROWS_AS(context->restore(saved), ContextFullError);
    CHECK(context->n_branches() == 2);
    other->close();
    CHECK_THROWS_AS(open_context(39)->restore(saved), ContextFullError);
    const auto exact = open_context(40);
    const auto restored = exact->restore(saved);
    CHECK(exact->n_cells_used() == 40);
    exact->close();
    CHECK_THROWS_AS(exact->restore(saved), ClosedError);
    CHECK_THROWS_AS(restored->save(), ClosedError);
}

TEST_CASE("rows dropped at the end are as if never there") {
    const auto context = open_context();
    const auto branch = branch_of(context, some_tokens(20));
    branch->drop(15, 20);
    CHECK(branch->tokens() == slice(some_tokens(20), 0, 15));
    CHECK(context->n_cells_used() == 15);
    CHECK(n_llama_cells(context) == 15);
    const auto quiet = open_context();
    const auto alone = branch_of(quiet, some_tokens(20))->fork(15);
    CHECK(distance(branch->logits(), alone->logits()) < close);
    const Token token = some_tokens(1, 2).front();
    CHECK(next_logits(context, branch, token) == next_logits(quiet, alone, token));
}

TEST_CASE("dropping moves later rows up") {
    const auto context = open_context();
    const std::vector<Token> t = some_tokens(20);
    const auto branch = branch_of(context, t);
    int begin = 0;
    int end = 0;
    SUBCASE("from the beginning") {
        end = 5;
    }
    SUBCASE("from the middle") {
        begin = 7;
        end = 9;
    }
    SUBCASE("all of them") {
        end = 20;
    }
    SUBCASE("none") {
        begin = end = 11;
    }
    std::vector<Token> left = slice(t, 0, begin);
    left.insert(left.end(), t.begin() + end, t.end());
    const auto before = branch->logits();
    branch->drop(begin, end);
    const int n = static_cast<int>(left.size());
    CHECK(branch->tokens() == left);
    CHECK(branch->length() == n);
    CHECK(branch->n_queued() == 0);
    CHECK(context->n_cells_used() == n);
    CHECK(n_llama_cells(context) == n);
    if (begin == end) {
        CHECK(branch->logits() == before);
    } else {
        CHECK_THROWS_AS(branch->logits(n + 1), PositionError);
    }
    branch->append(some_tokens(3, 2));
    context->decode();
    const auto fork = branch->fork();
    fork->append(some_tokens(2, 3));
    context->decode();
    CHECK(fork->length() == n + 5);
    CHECK(std::isfinite(distance(fork->logits(), before)));
    if (n == 0) {
        CHECK(distance(branch->logits(), fresh_logits(some_tokens(3, 2))) < close);
    }
}

TEST_CASE("keys are turned at once, before anything can be saved or broken off") {
    const auto context = open_context();
    const auto branch = branch_of(context, some_tokens(20));
    const auto beside = branch_of(context, some_tokens(2, 2));
    const auto unchanged_by_a_decode = [&] {
        const auto kv = branch->kv_bytes();
        beside->append({1});
        context->decode();
        return branch->kv_bytes() == kv;
    };
    branch->drop(3, 8);
    const Bytes saved = branch->save();
    CHECK(unchanged_by_a_decode());
    CHECK(branch->save() == saved);
    const auto other = open_context();
    CHECK(distance(other->restore(saved)->logits(), branch->logits()) < close);

    context->cancel();
    branch->drop(0, 4); // is no decode
    beside->append({1});
    CHECK_THROWS_AS(context->decode(), Cancelled);
    CHECK(unchanged_by_a_decode());

    // Decodes can still be broken off.
    context->set_interrupt([] { return true; });
    beside->append(some_tokens(100));
    CHECK_THROWS_AS(context->decode(), Cancelled);
}

TEST_CASE("logits kept from before a drop are not handed out") {
    const auto context = open_context();
    const auto branch = context->branch();
    branch->append(some_tokens(12), 4);
    context->decode();
    branch->drop(0, 1);
    const uint64_t rows = context->counters().rows_decoded;
    const std::vector<float> logits = branch->logits(); // the row where another one's lay
    CHECK(context->counters().rows_decoded == rows + 1);
    const auto first = branch_of(context, some_tokens(12))->fork(11);
    CHECK(distance(logits, first->logits()) > 1.0f);
}

TEST_CASE("what a fork shares cannot be dropped") {
    const auto context = open_context();
    const auto trunk = branch_of(context, some_tokens(20));
    const auto fork = trunk->fork(10);
    const auto kv = trunk->kv_bytes();
    CHECK_THROWS_AS(trunk->drop(0, 5), PositionError);
    CHECK_THROWS_AS(trunk->drop(15, 20), PositionError);
    CHECK_THROWS_AS(fork->drop(9, 10), PositionError);
    fork->append(some_tokens(4, 2));
    CHECK_THROWS_AS(fork->drop(10, 12), PositionError); // queued
    context->decode();
    CHECK_THROWS_AS(fork->drop(9, 12), PositionError);
    fork->drop(11, 12);
    CHECK(trunk->kv_bytes() == kv);
    CHECK(fork->length() == 13);
    trunk->close(); // now it holds them alone
    fork->drop(0, 4);
    CHECK(fork->length() == 9);
    CHECK(n_llama_cells(context) == 9);
}

TEST_CASE("ranges that are none are refused and change nothing") {
    const auto context = open_context();
    const auto branch = branch_of(context, some_tokens(10));
    const auto kv = branch->kv_bytes();
    for (const auto & [begin, end] :
         {std::pair(-1, 2), std::pair(3, 2), std::pair(5, 11), std::pair(11, 11), std::pair(-5, -2)}) {
        CHECK_THROWS_AS(branch->drop(begin, end), PositionError);
    }
    CHECK(branch->kv_bytes() == kv);
    CHECK(branch->tokens() == some_tokens(10));
    branch->close();
    CHECK_THROWS_AS(branch->drop(0, 1), ClosedError);
}

TEST_CASE("keys that ggml cannot turn are not moved") {
    for (const char * kv_type : {"bf16", "q8_0"}) { // the model's heads are 32 wide
        ContextOptions options;
        options.n_ctx = 256;
        options.n_threads = 1;
        options.kv_type = kv_type;
        const auto context = Context::create(model(), options);
        const auto branch = branch_of(context, some_tokens(10));
        const auto kv = branch->kv_bytes();
        CHECK_THROWS_AS(branch->drop(0, 5), BackendError);
        CHECK(branch->kv_bytes() == kv);
        CHECK(branch->length() == 10);
        branch->drop(4, 4);
        branch->drop(8, 10); // moves none
        CHECK(std::isfinite(distance(next_logits(context, branch, some_tokens(1).front()), fresh_logits({1}))));
    }
}
