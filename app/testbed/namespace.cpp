#include "testbed/namespace.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <stdexcept>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "testbed/process.hpp"

namespace flue::testbed {
namespace {

void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) {
        throw std::runtime_error("cannot write '" + text + "' to " + path);
    }
}

void unshare_or_explain() {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) == 0) {
        return;
    }
    if (errno == EINVAL) {
        throw std::runtime_error(
            "a user namespace can only be entered before the first thread is started");
    }
    throw std::runtime_error(
        std::string("this machine does not let you make a user namespace (") +
        std::generic_category().message(errno) +
        "); as root, try: sysctl -w kernel.unprivileged_userns_clone=1 "
        "user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0");
}

void mount_empty(const std::string& directory) {
    if (::mount("tmpfs", directory.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0) {
        throw_errno("mounting a tmpfs on " + directory);
    }
}

void loopback_up() {
    run_tool({"ip", "link", "set", "lo", "up"});
}

}  // namespace

void enter_bottle() {
    const auto uid = ::getuid();
    const auto gid = ::getgid();
    unshare_or_explain();
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
    write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        throw_errno("making the mounts private");
    }
    mount_empty("/run");
    // DPDK keeps its runtime files in /var/run/dpdk, which on most systems is /run/dpdk.
    if (const auto resolved = std::filesystem::weakly_canonical("/var/run"); resolved != "/run") {
        mount_empty(resolved);
    }
    ::unsetenv("RUNTIME_DIRECTORY");
    loopback_up();
}

Namespace Namespace::current() {
    return Namespace{owned(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC),
                           "opening this thread's namespace")};
}

Namespace Namespace::create() {
    const Namespace home = current();
    if (::unshare(CLONE_NEWNET) != 0) {
        throw_errno("making a network namespace");
    }
    Namespace made = current();
    loopback_up();
    if (::setns(home.fd(), CLONE_NEWNET) != 0) {
        throw_errno("going back to the first network namespace");
    }
    return made;
}

NamespaceScope::NamespaceScope(const Namespace& target) {
    if (::setns(target.fd(), CLONE_NEWNET) != 0) {
        throw_errno("entering a network namespace");
    }
}

NamespaceScope::~NamespaceScope() {
    if (::setns(home_.fd(), CLONE_NEWNET) != 0) {
        ::abort();  // the thread would go on in the wrong namespace
    }
}

void set_sysctl(const std::string& path, const std::string& value) {
    write_file("/proc/sys/" + path, value);
}

}  // namespace flue::testbed
