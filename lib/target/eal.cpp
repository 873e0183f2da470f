#include "target/eal.hpp"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_pdump.h>

#include "target/log.hpp"

namespace flue::target {

Eal::~Eal() {
    if (started_) {
        (void)rte_pdump_uninit();
        (void)rte_eal_cleanup();
    }
}

bool Eal::start(int argc, char** argv) {
    if (rte_eal_init(argc, argv) < 0) {
        FLUE_LOG(ERR,
                 "the EAL does not start: %s; without huge pages give it --no-huge -m 512, or "
                 "reserve some (echo 256 > "
                 "/proc/sys/vm/nr_hugepages); where /var/run is not writable set RUNTIME_DIRECTORY "
                 "to a directory that is; a "
                 "second flued needs another --file-prefix",
                 rte_strerror(rte_errno));
        return false;
    }
    started_ = true;
    if (rte_pdump_init() != 0) {
        FLUE_LOG(WARNING,
                 "no packet capture for dpdk-dumpcap: it needs the EAL's multi-process support, "
                 "which --no-shconf and "
                 "--in-memory switch off");
    }
    return true;
}

}  // namespace flue::target
