// A whole chimney behind real shared rings, fed with work requests of any bytes, state blocks and
// trees, scribbled ring indices, segments of the peer and time: each request that was taken gets
// exactly one completion, and when the host is gone nothing is left.

#include <set>

#include "../unit/chimney/world.hpp"
#include "input.hpp"

namespace {

using namespace flue;
using namespace flue::chimney;
using fuzz::Input;

constexpr uint32_t steps_max          = 200;
constexpr uint32_t completion_entries = 16;
constexpr uint64_t block_area         = 0;     ///< where state blocks and trees lie
constexpr uint64_t data_area          = 8192;  ///< where sends and receives lie

Options options() {
    Options options;
    options.receive_items                               = 8;
    options.time_wait_max                               = 2;
    options.rcv_wnd_limit                               = 1 << 20;
    options.tcp.limits.connections                      = 4;
    options.tcp.limits.send_items                       = 8;
    options.tcp.limits.receive_chunks                   = 16;
    options.tcp.limits.reassembly_blocks_per_connection = 3;
    return options;
}

class Script {
  public:
    explicit Script(Input& in) : in_(in), world_(completion_entries, options()) {}

    void run() {
        const uint8_t ending = in_.byte();
        for (uint32_t step = 0; step < steps_max && !in_.empty(); ++step) {
            act();
            check();
        }
        world_.port_open    = true;
        world_.hold_items   = false;
        world_.payloads_max = SIZE_MAX;
        world_.drop_held_items();
        if (!scribbled_ && (ending & 1) != 0) {
            end_in_order();
        }
        lose_host((ending & 2) != 0 ? HostLoss::abort : HostLoss::drain);
    }

  private:
    void act() {
        switch (in_.below(16)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
            case 5:
                return post(any_request());
            case 6:
                return write_state();
            case 7:
                return write_tree();
            case 8:
            case 9:
            case 10:
                return peer_sends();
            case 11:
                return pass_time();
            case 12:
                return poll();
            case 13:
                return change_world();
            case 14:
                return scribble();
            default:
                return turn();
        }
    }

    /// One turn of a worker's loop.
    void turn() {
        world_.chimney().poll(world_.now, *world_.target_queue);
        world_.chimney().on_time(world_.now);
        world_.chimney().advance(world_.now);
        world_.transmit();
        world_.take_sent();
        world_.reap();
    }

    void check() {
        std::array<Chimney::ConnectionInfo, 4> list;
        const uint32_t count = world_.chimney().list(0, list);
        for (const auto& connection : std::span{list}.first(count)) {
            if (connection.state != OffloadState::held) {
                world_.chimney().engine().check_invariants(connection.index);
            }
        }
    }

    // ---------------------------------------------------------------- the host

    flue_sge any_sge() {
        const uint8_t kind = in_.byte();
        flue_sge sge{.mr = world_.region_key, .length = sizeof(flue_state), .offset = block_area};
        if ((kind & 1) != 0) {
            sge.offset = data_area + uint64_t{in_.byte()} * 16;
            sge.length = in_.pick({1U, 0U, 100U, 1460U, 65536U, FLUE_SEND_BYTES_MAX});
        }
        if ((kind & 2) != 0) {
            sge.offset = block_area + uint64_t{in_.byte()} * 64;
        }
        if (kind > 240) {
            sge.mr     = in_.pick({0U, world_.region_key ^ 0x10000, UINT32_MAX});
            sge.offset = in_.number<uint64_t>();
        }
        return sge;
    }

    flue_conn any_handle() {
        const uint8_t which = in_.byte();
        if (which > 240) {
            return in_.number<uint64_t>();
        }
        return which % 9 == 8 ? FLUE_NO_CONN : handles_[which % 9];
    }

    flue_wr any_request() {
        flue_wr wr{};
        const uint8_t kind = in_.byte();
        if (kind > 250) {
            in_.fill(wr);
        } else {
            wr.opcode = kind % 13;
            wr.conn   = any_handle();
            if (kind >= 128) {
                wr.flags    = in_.byte();
                wr.object   = in_.below(5);
                wr.drain_ms = in_.pick({0U, 1U, 5000U, UINT32_MAX});
            }
            wr.sge_count = in_.below(kind >= 128 ? 4 : 3);
            for (uint32_t i = 0; i < std::min<uint32_t>(wr.sge_count, FLUE_SGE_MAX); ++i) {
                wr.sge[i] = any_sge();
            }
        }
        wr.wr_id = next_id_++;
        return wr;
    }

    void post(const flue_wr& wr) {
        if (world_.rings().submissions(0).enqueue(std::span{&wr, 1}) == 1) {
            posted_.insert(wr.wr_id);
        }
    }

    /// Each completion answers a request that is still to be answered, or is an event.
    void poll() {
        std::array<flue_wc, completion_entries> completions;
        const uint32_t count = world_.rings().completions(0).dequeue(completions);
        for (const flue_wc& wc : std::span{completions}.first(count)) {
            if (scribbled_) {
                continue;
            }
            if (wc.wr_id == 0) {
                FLUE_ASSERT(wc.opcode >= FLUE_EVENT_DISCONNECT && wc.status == FLUE_SUCCESS);
                continue;
            }
            const bool is_lost = fuzz::canary && wc.opcode == FLUE_OP_RECV && wc.bytes > 0;
            FLUE_ASSERT(is_lost || posted_.erase(wc.wr_id) == 1);
            if (wc.status == FLUE_SUCCESS && wc.conn != FLUE_NO_CONN) {
                handles_[next_handle_++ % 8] = wc.conn;
            }
        }
    }

    void write_state() {
        static constexpr uint8_t states[] = {FLUE_TCP_ESTABLISHED,
                                             FLUE_TCP_CLOSE_WAIT,
                                             FLUE_TCP_FIN_WAIT_1,
                                             FLUE_TCP_FIN_WAIT_2,
                                             FLUE_TCP_CLOSING,
                                             FLUE_TCP_LAST_ACK,
                                             FLUE_TCP_TIME_WAIT};
        const uint8_t shape               = in_.byte();
        flue_state block = World::state(in_.pick(states), static_cast<uint16_t>(80 + (shape & 3)));
        block.snd_max += (shape & 4) != 0 ? in_.byte() : 0U;
        block.const_flags |= (shape & 8) != 0 ? FLUE_CONST_TIMESTAMPS | FLUE_CONST_SACK : 0;
        block.receive_backlog_bytes = (shape & 16) != 0 ? in_.byte() * 64U : 0;
        block.cached_flags          = (shape & 32) != 0 ? in_.byte() : 0;
        for (uint32_t changes = (shape & 64) != 0 ? in_.below(4) : 0; changes > 0; --changes) {
            reinterpret_cast<uint8_t*>(&block)[in_.below(sizeof(block))] = in_.byte();
        }
        const uint64_t offset = (shape & 128) != 0 ? uint64_t{in_.byte()} * 64 : 0;
        world_.put_state(block, block_area + offset);
    }

    void write_tree() {
        std::array<flue_block, 8> blocks{};
        const uint32_t count = in_.below(blocks.size() + 1);
        for (flue_block& block : std::span{blocks}.first(count)) {
            block.object       = in_.below(4);
            block.kind         = in_.below(4);
            block.next         = in_.pick<uint16_t>({FLUE_NO_BLOCK, in_.below(9), 255});
            block.dependents   = in_.pick<uint16_t>({FLUE_NO_BLOCK, in_.below(9), 63});
            block.handle       = block.kind == FLUE_BLOCK_LINKER ? any_handle() : FLUE_NO_CONN;
            block.state_offset = in_.byte() * 64U;
        }
        world_.put(std::as_bytes(std::span{blocks}.first(count)), block_area + in_.byte() * 64);
        if (in_.flag()) {
            flue_neighbor_state neighbor{};
            neighbor.version = FLUE_STATE_VERSION;
            neighbor.size    = sizeof(neighbor);
            neighbor.vlan_id = in_.byte();
            world_.put(std::as_bytes(std::span{&neighbor, 1}), block_area + in_.byte() * 64);
        }
        if (in_.flag()) {
            flue_path_state path{};
            const flue_state block = World::state();
            path.version           = FLUE_STATE_VERSION;
            path.size              = sizeof(path);
            path.family            = in_.pick<uint8_t>({4, 6, 0});
            path.path_mtu          = in_.pick<uint16_t>({1500, 0, 68, 9000});
            std::ranges::copy(block.local_addr, path.local_addr);
            std::ranges::copy(block.remote_addr, path.remote_addr);
            path.neighbor = in_.flag() ? any_handle() : 0;
            world_.put(std::as_bytes(std::span{&path, 1}), block_area + in_.byte() * 64);
        }
    }

    /// The host writes into the words that only the target should write, and the other way round.
    void scribble() {
        const uint8_t which        = in_.byte();
        rte_ring* ring             = (which & 1) != 0 ? world_.rings().submissions(0).get()
                                                      : world_.rings().completions(0).get();
        volatile uint32_t* words[] = {
            &ring->prod.head, &ring->prod.tail, &ring->cons.head, &ring->cons.tail};
        const uint32_t off = in_.pick({1U, UINT32_MAX, 8U, 1U << 31, 0xabcdU});
        __atomic_fetch_add(words[(which >> 1) & 3], off, __ATOMIC_RELAXED);
        scribbled_ = true;
    }

    // ---------------------------------------------------------------- peer, time, port

    void peer_sends() {
        std::array<Chimney::ConnectionInfo, 4> list;
        const uint32_t count = world_.chimney().list(0, list);
        const uint8_t shape  = in_.byte();
        uint32_t seq         = World::rcv_nxt;
        uint32_t ack         = World::snd_nxt;
        world_.peer_port     = static_cast<uint16_t>(80 + (shape & 3));
        for (const auto& connection : std::span{list}.first(count)) {
            if (connection.key.remote_port == world_.peer_port &&
                connection.state != OffloadState::held) {
                tcp::Delegated state;
                world_.chimney().engine().snapshot(world_.now, connection.index, state);
                seq = state.rcv_nxt.value;
                ack = (shape & 4) != 0 ? state.snd_max.value : state.snd_una.value;
            }
        }
        uint8_t flags = wire::tcp_ack;
        flags |= (shape & 8) != 0 ? wire::tcp_fin : 0;
        flags |= (shape & 16) != 0 ? wire::tcp_psh : 0;
        if ((shape & 32) != 0) {
            seq += in_.near();
            ack += in_.near();
            flags = static_cast<uint8_t>(flags ^ in_.byte());
        }
        const std::string payload((shape & 64) != 0 ? in_.byte() * 8U : 0, 'p');
        world_.from_peer(seq, ack, flags, payload);
        if ((shape & 128) != 0) {
            turn();
        }
    }

    void pass_time() {
        world_.now = world_.now + in_.pick({1'000U, 50'000U, 600'000U, 61'000'000U, UINT32_MAX});
        turn();
    }

    void change_world() {
        using enum Environment::Claim;
        const uint8_t what = in_.byte();
        world_.port_open   = (what & 1) != 0;
        world_.hold_items  = (what & 2) != 0;
        if ((what & 4) != 0) {
            world_.drop_held_items();
        }
        world_.payloads_max = (what & 8) != 0 ? 1 : SIZE_MAX;
        world_.claim_answer = (what & 16) != 0 ? in_.pick({in_use, no_room, not_owner}) : ok;
    }

    // ---------------------------------------------------------------- the end

    void poll_until_quiet() {
        for (uint32_t i = 0; i < 16; ++i) {
            turn();
            poll();
        }
    }

    /// Ends every offload with the requests for it; then nothing may be left unanswered.
    void end_in_order() {
        poll_until_quiet();
        std::array<Chimney::ConnectionInfo, 4> list;
        for (uint32_t round = 0; round < 2; ++round) {  // TERMINATE may leave the tuple held
            const uint32_t count = world_.chimney().list(0, list);
            for (const auto& connection : std::span{list}.first(count)) {
                const bool held = connection.state == OffloadState::held;
                post(held ? World::request(FLUE_OP_RELEASE, connection.handle, next_id_++)
                          : world_.terminate_request(connection.handle, next_id_++));
            }
            poll_until_quiet();
            if (world_.target_queue->waiting() > 0) {
                return;  // all that the session may have waits for a peer that does not answer
            }
        }
        FLUE_ASSERT(posted_.empty());
        FLUE_ASSERT(world_.chimney().list(0, list) == 0);
        world_.expect_nothing_left();
    }

    /// What a worker does when a host is lost; the peer never answers.
    void lose_host(HostLoss policy) {
        world_.target_queue->abandon();
        for (uint32_t polls = 0; polls < 16; ++polls) {
            world_.chimney().poll(world_.now, *world_.target_queue);
        }
        world_.chimney().lose(world_.now, *world_.target_queue, policy);
        for (uint32_t waits = 0; waits < 200; ++waits) {
            world_.now = world_.now + 61'000'000;
            turn();
            check();
            if (waits > 0 && world_.chimney().detachable(*world_.target_queue)) {
                break;
            }
        }
        world_.now = world_.now + 61'000'000;
        turn();
        world_.reap();
        const Chimney::Usage usage = world_.chimney().usage();
        FLUE_ASSERT(world_.chimney().detachable(*world_.target_queue));
        FLUE_ASSERT(usage.tcp.connections == 0 && usage.tcp.send_items == 0);
        FLUE_ASSERT(usage.tcp.receive_chunks == 0 && usage.receive_items == 0);
        FLUE_ASSERT(usage.held == 0 && usage.time_waits == 0);
        FLUE_ASSERT(world_.flow_count() == 0);
        world_.chimney().detach(*world_.target_queue);
    }

    Input& in_;
    World world_;
    std::set<uint64_t> posted_;  ///< ids without an answer
    std::array<flue_conn, 8> handles_{};
    uint32_t next_handle_ = 0;
    uint64_t next_id_     = 1;
    bool scribbled_       = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    testing::GTEST_FLAG(throw_on_failure) = true;  // the world's checks end the process too
    Input in({data, size});
    Script(in).run();
    return 0;
}
