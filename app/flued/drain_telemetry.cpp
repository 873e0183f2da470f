#include <cerrno>
#include <mutex>

#include <rte_telemetry.h>

#include "drain_service.hpp"

namespace flue {

namespace {

// rte_telemetry's callbacks carry no context, and cannot be unregistered.
std::mutex registered_mutex;
const DrainService* registered = nullptr;

int answer_drains(const char* /*name*/, const char* /*parameters*/, rte_tel_data* answer) {
    const std::lock_guard lock{registered_mutex};
    rte_tel_data_start_dict(answer);
    if (registered == nullptr) {
        return 0;
    }
    rte_tel_data_add_dict_u64(answer, "under_way", registered->under_way());
    for (size_t i = 0; i < drain_count_names.size(); ++i) {
        rte_tel_data_add_dict_u64(
            answer, drain_count_names[i], registered->counters().get(static_cast<DrainCount>(i)));
    }
    return 0;
}

}  // namespace

void register_drain_telemetry(const DrainService* service) {
    {
        const std::lock_guard lock{registered_mutex};
        registered = service;
    }
    if (service != nullptr) {
        // Without telemetry in the EAL there is nobody to answer.
        (void)rte_telemetry_register_cmd(
            "/flue/drains", answer_drains, "Connections being drained, and what became of others");
    }
}

}  // namespace flue
