#include "alora/scoring.hpp"

#include "alora/error.hpp"
#include "branch_handle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

namespace alora {

namespace {

// A prefix of one or more labels. The root is the branch's last row; inner nodes have a row each on scratch segments.
struct Node {
    Token token = 0;
    int parent = -1;
    int label = -1; // the label that ends here
    std::vector<int> children;
    double log_probability = 0.0; // of the tokens from the root
    std::shared_ptr<Segment> segment;
    int position = 0;
    int n_drops = 0; // the segment's when this was planted: a later one may put another row at the position
};

constexpr int root = 0;

std::vector<Node> build_trie(const std::vector<std::vector<Token>> & labels) {
    if (labels.empty()) {
        throw ArgumentError("no labels to score; expected at least one");
    }
    std::vector<Node> nodes(1);
    for (size_t i = 0; i < labels.size(); ++i) {
        if (labels[i].empty()) {
            throw ArgumentError("label " + std::to_string(i) + " has no tokens; an empty answer cannot be scored");
        }
        int at = root;
        for (const Token token : labels[i]) {
            const auto & children = nodes[static_cast<size_t>(at)].children;
            const auto found = std::find_if(children.begin(), children.end(), [&](int child) {
                return nodes[static_cast<size_t>(child)].token == token;
            });
            if (found != children.end()) {
                at = *found;
                continue;
            }
            const int made = static_cast<int>(nodes.size());
            nodes[static_cast<size_t>(at)].children.push_back(made);
            Node node;
            node.token = token;
            node.parent = at;
            nodes.push_back(std::move(node));
            at = made;
        }
        Node & end = nodes[static_cast<size_t>(at)];
        if (end.label >= 0) {
            throw ArgumentError("labels " + std::to_string(end.label) + " and " + std::to_string(i) +
                                " are the same tokens; each label must be there once");
        }
        end.label = static_cast<int>(i);
    }
    return nodes;
}

// Queues a row for every inner node. Parents come before children in `nodes`, so each finds its parent's segment; the
// first inner child goes on in that segment, the others fork from it.
void plant(Context::State & context, const std::shared_ptr<Segment> & branch, std::vector<Node> & nodes) {
    Node & first = nodes[root];
    first.segment = branch;
    first.position = branch->length() - 1;
    first.n_drops = branch->n_drops;
    if (branch->n_queued() > 0) {
        branch->keep_from = std::min(branch->keep_from, first.position);
    } else if (branch->logits.count(first.position) == 0) {
        const Token last = context.tokens_of(*branch).back();
        first.segment = context.fork_segment(branch, first.position);
        first.segment->open = false;
        first.n_drops = 0;
        if (branch->governance) {
            context.govern(*first.segment, *branch->governance);
        }
        context.queue(*first.segment, {last}, 1);
    }
    for (size_t i = 1; i < nodes.size(); ++i) {
        Node & node = nodes[i];
        if (node.children.empty()) {
            continue;
        }
        const Node & parent = nodes[static_cast<size_t>(node.parent)];
        const bool goes_on = node.parent != root && parent.segment->length() == parent.position + 1;
        node.segment = goes_on ? parent.segment : context.fork_segment(parent.segment, parent.position + 1);
        node.segment->open = false;
        node.position = parent.position + 1;
        context.queue(*node.segment, {node.token}, 1);
        node.segment->keep_from = node.segment->start;
    }
}

double log_sum_exp(const std::vector<float> & logits) {
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float logit : logits) {
        sum += std::exp(static_cast<double>(logit) - highest);
    }
    return highest + std::log(sum);
}

// Goes down the trie: every child's log-probability from its parent's row.
void weigh(std::vector<Node> & nodes) {
    for (Node & node : nodes) {
        if (node.children.empty()) {
            continue;
        }
        const auto kept = node.segment->logits.find(node.position);
        if (kept == node.segment->logits.end() || node.segment->n_drops != node.n_drops) {
            throw PositionError("the labels' rows are not computed, or their branch went on or was closed since; "
                                "decode() the context before reading scores, and append nothing in between");
        }
        const std::vector<float> & logits = *kept->second;
        const double normaliser = log_sum_exp(logits);
        if (!std::isfinite(normaliser)) {
            throw BackendError("the model's logits are not numbers; are its weights or an adapter's scale broken?");
        }
        for (const int child : node.children) {
            Node & next = nodes[static_cast<size_t>(child)];
            next.log_probability = node.log_probability + logits[static_cast<size_t>(next.token)] - normaliser;
        }
    }
}

LabelScores add_up(const std::vector<Node> & nodes, size_t n_labels) {
    LabelScores scores;
    scores.log_probabilities.resize(n_labels);
    scores.probabilities.resize(n_labels);
    double highest = -std::numeric_limits<double>::infinity();
    for (const Node & node : nodes) {
        if (node.label >= 0) {
            scores.log_probabilities[static_cast<size_t>(node.label)] = node.log_probability;
            highest = std::max(highest, node.log_probability);
        }
    }
    // A label's own event is its sequence without the nearest longer labels behind it.
    double total = 0.0;
    for (const Node & node : nodes) {
        if (node.label < 0) {
            continue;
        }
        const double relative = std::exp(node.log_probability - highest);
        scores.probabilities[static_cast<size_t>(node.label)] += relative;
        int above = node.parent;
        while (above != root && nodes[static_cast<size_t>(above)].label < 0) {
            above = nodes[static_cast<size_t>(above)].parent;
        }
        if (above == root) {
            total += relative;
        } else {
            scores.probabilities[static_cast<size_t>(nodes[static_cast<size_t>(above)].label)] -= relative;
        }
    }
    for (double & probability : scores.probabilities) {
        probability = std::max(0.0, probability / total);
    }
    scores.off_label = std::clamp(1.0 - total * std::exp(highest), 0.0, 1.0);
    return scores;
}

} // namespace

struct Scoring::State {
    std::shared_ptr<Context> context;
    std::vector<std::vector<Node>> tries;
    std::vector<size_t> n_labels;
};

Scoring::Scoring(std::shared_ptr<Context> context, const std::vector<LabelQuery> & queries)
    : state_(std::make_unique<State>()) {
    Context::State & state = context->state();
    const std::lock_guard<std::mutex> lock(state.mutex);
    std::vector<std::vector<Node>> tries; // goes before the lock does
    for (const LabelQuery & query : queries) {
        const Branch::Handle & handle = query.branch->handle();
        if (handle.context.get() != &state) {
            throw ArgumentError("a branch of another context was given; labels are scored on branches of one context");
        }
        if (handle.open().length() == 0) {
            throw ArgumentError("a branch without rows has no labels to score; append a prompt first");
        }
        for (const std::vector<Token> & label : query.labels) {
            state.model->check_tokens(label);
        }
        tries.push_back(build_trie(query.labels));
    }
    for (size_t i = 0; i < queries.size(); ++i) {
        plant(state, queries[i].branch->handle().segment, tries[i]);
        state_->n_labels.push_back(queries[i].labels.size());
    }
    state_->tries = std::move(tries);
    state_->context = std::move(context);
}

// Giving segments back changes the context.
Scoring::~Scoring() {
    if (state_->context) {
        const std::lock_guard<std::mutex> lock(state_->context->state().mutex);
        state_->tries.clear();
    }
}

std::vector<LabelScores> Scoring::read() const {
    Context::State & state = state_->context->state();
    const std::lock_guard<std::mutex> lock(state.mutex);
    state.check_open();
    std::vector<LabelScores> scores;
    for (size_t i = 0; i < state_->tries.size(); ++i) {
        weigh(state_->tries[i]);
        scores.push_back(add_up(state_->tries[i], state_->n_labels[i]));
    }
    return scores;
}

std::vector<LabelScores> score(const std::shared_ptr<Context> & context, const std::vector<LabelQuery> & queries) {
    const Scoring scoring(context, queries);
    context->decode();
    return scoring.read();
}

} // namespace alora
