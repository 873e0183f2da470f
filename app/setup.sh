# shellcheck shell=bash disable=SC2034  # lists are used by name
# To be sourced: what flue needs on a Debian 12 machine, in one place.
#
#   need_packages build run check   installs what is missing of these groups, as root or through
#                                   sudo; says what to install and returns 1 where it may not

# A compiler, meson, and everything that the build looks for.
packages_build=(g++ meson ninja-build pkgconf python3-minimal libdpdk-dev libnuma-dev
                libcli11-dev nlohmann-json3-dev libgtest-dev libbenchmark-dev liblwip-dev)
# What the demo and the end-to-end tests call: namespaces, links, packet loss, the remote.
packages_run=(util-linux iproute2 ethtool nftables iputils-ping curl)
# The second compiler and its sanitizers.
packages_check=(clang-14 libclang-rt-14-dev)

missing_packages() {
    local group package
    for group in "$@"; do
        local -n packages=packages_$group
        for package in "${packages[@]}"; do
            [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
                printf '%s ' "$package"
        done
    done
}

need_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "This is not a Debian system: the build will say what it misses."
        return 0
    fi
    local missing as_root=()
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        if ! sudo -n true 2>/dev/null; then
            echo "Packages are missing and this is not root.  Please install them first:"
            echo "    sudo apt-get install --no-install-recommends $missing"
            return 1
        fi
    fi
    echo "Installing what is missing: $missing"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    # shellcheck disable=SC2086  # a list of package names
    if ! { "${apt[@]}" update &&
           "${apt[@]}" install -y --no-install-recommends $missing >/dev/null; }; then
        echo "apt-get could not install them; flue is tried on Debian 12 (bookworm)."
        return 1
    fi
}
