#pragma once

#include <string>

#include "testbed/descriptor.hpp"

namespace flue::testbed {

enum class Listen : bool { no, yes };

/// packet_socket opens an AF_PACKET socket on an interface of the calling thread's namespace, whole
/// frames in and out. Listen::no: nothing is ever received on it.
Descriptor packet_socket(const std::string& interface, Listen listen);

}  // namespace flue::testbed
