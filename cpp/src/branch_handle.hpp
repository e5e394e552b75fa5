// What a Branch holds: a place in its context's tree of segments.
#pragma once

#include "alora/branch.hpp"
#include "context_state.hpp"

#include <memory>
#include <mutex>

namespace alora {

struct Branch::Handle {
    std::shared_ptr<Context::State> context;
    std::shared_ptr<Segment> segment; // none once closed

    static std::shared_ptr<Branch> make(std::shared_ptr<Context::State> context, std::shared_ptr<Segment> segment);

    // The segment, or ClosedError. The context must be locked.
    Segment & open() const;
    // Kept logits of the segment's last rows; empty where one of them was not kept.
    static std::vector<float> kept_logits(const Segment & of, int rows);
    void close();
};

} // namespace alora
