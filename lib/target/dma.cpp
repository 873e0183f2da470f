// rte_dev_dma_map is what every DPDK with external memory uses, and still marked experimental
// in 22.11.
#define ALLOW_EXPERIMENTAL_API

#include "target/dma.hpp"

#include <algorithm>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_memory.h>

#include "target/log.hpp"

namespace flue::target {

namespace {

rte_device* device_of(const Port& port) {
    rte_eth_dev_info info{};
    return rte_eth_dev_info_get(port.id, &info) == 0 ? info.device : nullptr;
}

bool map_for(const Port& port, std::span<std::byte> bytes) {
    const int error = rte_dev_dma_map(
        device_of(port), bytes.data(), reinterpret_cast<uint64_t>(bytes.data()), bytes.size());
    // Ports behind one IOMMU container share their mappings: the second finds it there.
    return error == 0 || rte_errno == EEXIST;
}

void unmap_for(const Port& port, std::span<std::byte> bytes) {
    (void)rte_dev_dma_unmap(
        device_of(port), bytes.data(), reinterpret_cast<uint64_t>(bytes.data()), bytes.size());
}

}  // namespace

bool DmaMapper::has_device() const {
    return std::ranges::any_of(ports_, [](const Port& port) { return !port.is_virtual; });
}

bool DmaMapper::map(std::span<std::byte> bytes, size_t page_bytes) const {
    if (!has_device()) {
        return true;
    }
    if (rte_eal_iova_mode() != RTE_IOVA_VA) {
        FLUE_LOG(WARNING,
                 "host memory is not mapped for the ports, its sends are copied: devices need the "
                 "EAL's --iova-mode=va, hence "
                 "an IOMMU");
        return false;
    }
    if (rte_extmem_register(bytes.data(), bytes.size(), nullptr, 0, page_bytes) != 0) {
        FLUE_LOG(WARNING,
                 "host memory cannot be registered (%s), its sends are copied",
                 rte_strerror(rte_errno));
        return false;
    }
    for (const Port& port : ports_) {
        if (!port.is_virtual && !map_for(port, bytes)) {
            FLUE_LOG(WARNING,
                     "port %s cannot map host memory (%s), its sends are copied",
                     port.name.c_str(),
                     rte_strerror(rte_errno));
            unmap(bytes);
            return false;
        }
    }
    return true;
}

void DmaMapper::unmap(std::span<std::byte> bytes) const {
    if (!has_device()) {
        return;
    }
    for (const Port& port : ports_) {
        if (!port.is_virtual) {
            unmap_for(port, bytes);
        }
    }
    (void)rte_extmem_unregister(bytes.data(), bytes.size());
}

}  // namespace flue::target
