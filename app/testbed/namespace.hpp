#pragma once

#include <string>
#include <utility>

#include "testbed/descriptor.hpp"

namespace flue::testbed {

/// enter_bottle makes the calling process root of a user, a mount and a network namespace of its
/// own: what it and its children do to interfaces, routes and /run (an empty tmpfs from now on) is
/// seen by nobody else and is gone with the last of them.  Works as root and as an ordinary user.
/// Pre: the process has one thread.  Errors: std::runtime_error that says what the machine forbids.
void enter_bottle();

/// Namespace is a network namespace that lives as long as this object or a process inside it.
class Namespace {
  public:
    /// The one that the calling thread is in.
    static Namespace current();
    /// A new one with its loopback up; the calling thread stays where it is.
    static Namespace create();

    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    explicit Namespace(Descriptor fd) : fd_(std::move(fd)) {}

    Descriptor fd_;
};

/// NamespaceScope puts the calling thread into a namespace and back.  Sockets stay where they were
/// made, so a socket of the remote can be used anywhere.
class NamespaceScope {
  public:
    explicit NamespaceScope(const Namespace& target);
    ~NamespaceScope();
    NamespaceScope(const NamespaceScope&)            = delete;
    NamespaceScope& operator=(const NamespaceScope&) = delete;

  private:
    Namespace home_ = Namespace::current();
};

/// inside runs `body` in the namespace on the calling thread and returns what it returns.
template <typename Body>
auto inside(const Namespace& target, Body&& body) {
    const NamespaceScope scope{target};
    return std::forward<Body>(body)();
}

/// set_sysctl writes /proc/sys/`path`, which for net/ means that of the calling thread's namespace.
void set_sysctl(const std::string& path, const std::string& value);

}  // namespace flue::testbed
