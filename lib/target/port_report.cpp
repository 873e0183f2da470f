#include "target/port.hpp"

#include <cinttypes>

#include "target/log.hpp"

namespace flue::target {

namespace {

void report_checksums(const Port& port) {
    FLUE_LOG(INFO,
             "  checksums out: %s",
             port.tx_checksum ? "by the port"
                              : "in software: every byte sent is read once by the worker");
    FLUE_LOG(INFO,
             "  checksums in: %s",
             port.rx_checksum ? "by the port"
                              : "in software: every byte received is read once by the worker");
}

void report_sending(const Port& port) {
    if (port.zero_copy()) {
        FLUE_LOG(INFO, "  zero-copy sends: yes, up to %u pieces a frame", port.tx_segments_max);
    } else if (port.tx_segments_max == 1) {
        FLUE_LOG(INFO,
                 "  zero-copy sends: no, the port takes no frame in pieces: every byte sent is "
                 "copied once");
    } else {
        FLUE_LOG(INFO,
                 "  zero-copy sends: no, the port frees sent packets late and cannot be asked to, "
                 "which would hold up "
                 "completions: every byte sent is copied once");
    }
    if (port.zero_copy() && port.freeing == Port::Freeing::on_request) {
        FLUE_LOG(INFO,
                 "  sent packets are freed late: an idle worker asks for them, completions may "
                 "wait a little");
    }
    FLUE_LOG(INFO,
             "  segmentation: one frame a segment, in software%s",
             port.tso ? " (the port could cut large segments itself)" : "");
    if (port.fast_free) {
        FLUE_LOG(INFO, "  fast free: not used, it does not go with zero-copy sends");
    }
}

void report_queues(const Port& port, uint16_t workers) {
    if (workers == 1) {
        FLUE_LOG(INFO, "  one worker, one queue each way: no steering needed");
        return;
    }
    if (port.rss_buckets > 0) {
        FLUE_LOG(INFO,
                 "  RSS: %u RX queues, each worker gets its own flows from the port",
                 port.rx_queues);
    } else {
        FLUE_LOG(INFO,
                 "  RSS: none that can be steered: worker 0 receives for all and passes on by "
                 "software RSS, which bounds the "
                 "receive rate to one core's");
    }
    if (port.tx_queues == 1) {
        FLUE_LOG(INFO,
                 "  one TX queue only: worker 0 sends for all, which bounds the send rate to one "
                 "core's");
    }
}

}  // namespace

void report_port(const Port& port, uint16_t workers) {
    const wire::MacAddress& mac = port.mac;
    FLUE_LOG(INFO,
             "port %s (%s), %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, NUMA node %d:",
             port.name.c_str(),
             port.driver.c_str(),
             mac[0],
             mac[1],
             mac[2],
             mac[3],
             mac[4],
             mac[5],
             port.mtu,
             port.socket);
    report_checksums(port);
    report_sending(port);
    report_queues(port, workers);
}

}  // namespace flue::target
