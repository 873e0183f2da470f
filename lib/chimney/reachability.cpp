#include "chimney/impl.hpp"

// Whether a neighbor is still there: what the host last knew, what its connections' progress shows,
// and asking the host when both are long ago.  Contract 1.3, 2.10

namespace flue::chimney {

namespace {

constexpr uint32_t events_per_advance = 64;

}  // namespace

bool Chimney::Impl::is_stale(Instant now, const Node& neighbor) const {
    return options.nce_stale_ms != 0 &&
           heard_ago_ms(now, neighbor.host_heard_us) > options.nce_stale_ms &&
           heard_ago_ms(now, neighbor.target_heard_us) > options.nce_stale_ms;
}

NodeIndex Chimney::Impl::neighbor_of(ConnIndex index) const {
    const NodeIndex path = path_links[index].path;
    return path == no_node ? no_node : nodes[path].neighbor;
}

/// process has the engine process a segment and notes the progress that it shows.
tcp::Engine::Outcome Chimney::Impl::process(Instant now,
                                            ConnIndex index,
                                            const tcp::Segment& segment) {
    if ((connections[index].flags & flag_on_path) == 0) {
        return engine.on_segment(now, index, segment);
    }
    const Seq before         = engine.snd_una(index);
    const auto outcome       = engine.on_segment(now, index, segment);
    const NodeIndex neighbor = neighbor_of(index);
    if (neighbor != no_node && engine.snd_una(index) != before) {
        nodes[neighbor].target_heard_us = static_cast<int64_t>(now.us);
        nodes[neighbor].clear(node_asked);
    }
    return outcome;
}

/// ask_for_news looks at the neighbors that segments are sent through.
void Chimney::Impl::ask_for_news(Instant now, std::span<const tcp::TxSegment> segments) {
    for (const tcp::TxSegment& segment : segments) {
        if ((connections[segment.conn].flags & flag_on_path) == 0) {
            continue;
        }
        const NodeIndex index = neighbor_of(segment.conn);
        if (index == no_node || nodes[index].is(node_asked) || !is_stale(now, nodes[index])) {
            continue;
        }
        nodes[index].set(node_asked);
        nodes[index].set(node_asking);
        if (!decltype(asking)::listed(nodes[index])) {
            asking.push_back(&nodes[0], index);
        }
    }
}

void Chimney::Impl::post_reachability_events() {
    for (uint32_t i = 0; i < events_per_advance && !asking.empty(); ++i) {
        const NodeIndex index = asking.pop_front(&nodes[0]);
        Node& node            = nodes[index];
        // Freed since, its host gone, or heard of meanwhile: nothing to ask any more.
        if (!node.is(node_asking) || !node.is(node_asked) || queues[node.queue].lost) {
            node.clear(node_asking);
            continue;
        }
        if (queues[node.queue].queue->post_event({.wr_id       = 0,
                                                  .conn        = handle_of_node(index),
                                                  .host_handle = node.host_handle,
                                                  .bytes       = 0,
                                                  .opcode      = FLUE_EVENT_REACHABILITY,
                                                  .status      = FLUE_SUCCESS,
                                                  .info        = 0})) {
            node.clear(node_asking);
        } else {
            asking.push_back(&nodes[0], index);
        }
    }
}

}  // namespace flue::chimney
