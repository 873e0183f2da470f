#include <array>
#include <string>

#include <rte_telemetry.h>

#include "target/telemetry.hpp"

/// What sessions have, and what they were refused.
namespace flue::target {

namespace {

constexpr size_t sessions_in_page = 16;  ///< rte_telemetry's answer has room for 16 KiB

struct StatusName {
    flue_status status;
    const char* name;
};

/// Of those that refuse a request.
constexpr StatusName request_names[] = {
    {FLUE_INVALID_STATE, "invalid_state"},
    {FLUE_RESOURCES, "resources"},
    {FLUE_TCP_ENTRIES, "tcp_entries"},
    {FLUE_TCP_RCV_WINDOW, "tcp_rcv_window"},
    {FLUE_TCP_RCV_BUFFER, "tcp_rcv_buffer"},
    {FLUE_FAILURE, "failure"},
    {FLUE_PATH_ENTRIES, "path_entries"},
    {FLUE_NEIGHBOR_ENTRIES, "neighbor_entries"},
    {FLUE_HW_ADDRESS_ENTRIES, "hw_address_entries"},
    {FLUE_VLAN_MISMATCH, "vlan_mismatch"},
    {FLUE_PATH_MTU, "path_mtu"},
    {FLUE_BAD_OPCODE, "bad_opcode"},
    {FLUE_BAD_CONNECTION, "bad_connection"},
    {FLUE_BAD_REGION, "bad_region"},
    {FLUE_BAD_LENGTH, "bad_length"},
    {FLUE_BAD_STATE, "bad_state"},
    {FLUE_BAD_REQUEST, "bad_request"},
    {FLUE_TUPLE_IN_USE, "tuple_in_use"},
    {FLUE_NOT_OWNER, "not_owner"},
    {FLUE_QUOTA, "quota"},
    {FLUE_NOT_PERMITTED, "not_permitted"},
};

struct SessionStatusName {
    queue::SessionStatus status;
    const char* name;
};

constexpr SessionStatusName message_names[] = {
    {queue::SessionStatus::bad_version, "message_bad_version"},
    {queue::SessionStatus::bad_message, "message_bad_message"},
    {queue::SessionStatus::quota, "message_quota"},
    {queue::SessionStatus::no_memory, "message_no_memory"},
    {queue::SessionStatus::not_sealed, "message_not_sealed"},
    {queue::SessionStatus::bad_descriptor, "message_bad_descriptor"},
    {queue::SessionStatus::bad_key, "message_bad_key"},
    {queue::SessionStatus::not_permitted, "message_not_permitted"},
    {queue::SessionStatus::bad_socket, "message_bad_socket"},
    {queue::SessionStatus::bad_token, "message_bad_token"},
    {queue::SessionStatus::busy, "message_busy"},
    {queue::SessionStatus::refused, "message_refused"},
};

void add_nonzero(rte_tel_data* dict, const char* name, uint64_t count) {
    if (count != 0) {
        rte_tel_data_add_dict_u64(dict, name, count);
    }
}

rte_tel_data* describe(const Session::Report& session) {
    rte_tel_data* dict = rte_tel_data_alloc();
    if (dict == nullptr) {
        return nullptr;
    }
    rte_tel_data_start_dict(dict);
    rte_tel_data_add_dict_string(dict, "name", session.name.c_str());
    rte_tel_data_add_dict_string(dict, "state", session.ending ? "ending" : "open");
    rte_tel_data_add_dict_u64(dict, "pid", static_cast<uint64_t>(session.peer.pid));
    rte_tel_data_add_dict_u64(dict, "uid", session.peer.uid);
    rte_tel_data_add_dict_u64(dict, "raw", session.raw ? 1 : 0);
    rte_tel_data_add_dict_u64(dict, "queues", session.queues);
    rte_tel_data_add_dict_u64(dict, "regions", session.regions);
    rte_tel_data_add_dict_u64(dict, "region_bytes", session.region_bytes);
    rte_tel_data_add_dict_u64(dict, "connections", session.connections);
    rte_tel_data_add_dict_u64(dict, "held", session.held);
    rte_tel_data_add_dict_u64(dict, "requests", session.requests);
    add_nonzero(dict, "waits", session.waits);
    for (const auto& [status, name] : request_names) {
        add_nonzero(dict, name, session.refused_requests[status]);
    }
    for (const auto& [status, name] : message_names) {
        add_nonzero(dict, name, session.refused_messages[static_cast<size_t>(status)]);
    }
    return dict;
}

}  // namespace

int Telemetry::sessions(const char* parameters, rte_tel_data* answer) {
    const uint32_t from = first_number(parameters);
    rte_tel_data_start_dict(answer);
    for (const Session::Report& session : parts_.control->reports(from, sessions_in_page)) {
        rte_tel_data* dict = describe(session);
        if (dict == nullptr) {
            return -1;
        }
        rte_tel_data_add_dict_container(answer, std::to_string(session.id).c_str(), dict, 0);
    }
    return 0;
}

int Telemetry::refusals(rte_tel_data* answer) {
    std::array<uint64_t, queue::SessionShare::statuses> requests{};
    uint64_t waits      = 0;
    const bool answered = for_workers(nullptr, [&](const WorkerSnapshot& snapshot) {
        waits += snapshot.chimney.waits;
        for (size_t i = 0; i < requests.size(); ++i) {
            requests[i] += snapshot.chimney.refusals[i];
        }
    });
    rte_tel_data_start_dict(answer);
    rte_tel_data_add_dict_u64(answer, "sessions_refused", parts_.control->sessions_refused());
    const Refusals& messages = parts_.control->refusals();
    rte_tel_data_add_dict_u64(answer, "sessions_ended_by_mistake", messages.mistakes.get());
    rte_tel_data_add_dict_u64(answer, "waits", waits);
    for (const auto& [status, name] : request_names) {
        rte_tel_data_add_dict_u64(answer, name, requests[status]);
    }
    for (const auto& [status, name] : message_names) {
        const uint64_t count = messages.by_status[static_cast<size_t>(status)].get();
        rte_tel_data_add_dict_u64(answer, name, count);
    }
    return answered ? 0 : -1;
}

}  // namespace flue::target
