#pragma once

#include <string>

#include "testbed/namespace.hpp"

namespace flue::testbed {

/// Router forwards IP packets between two interfaces with one host behind each.  The hosts believe
/// themselves on one link: it answers ARP and neighbor solicitations for the other one.
class Router {
  public:
    struct Side {
        std::string interface;
        std::string ipv4;  ///< of the host behind it
        std::string ipv6;
    };

    /// Pre: both interfaces exist in `place`, which nothing else uses.
    Router(const Namespace& place, const Side& near, const Side& far);

    /// set_mtu says what IP packet passes to the host on the far side at most.  The other way there
    /// is no limit but the interface's.
    void set_mtu(unsigned bytes) const;
    /// tell says whether the sender of a packet that is too large learns of it, as at first, or the
    /// router is a black hole.
    void tell(bool senders) const;

  private:
    const Namespace& place_;
    Side far_;
};

}  // namespace flue::testbed
