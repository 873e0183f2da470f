#!/bin/bash
# Builds flue in build/gcc and has a target carry random connections with the kernel over a lossy
# wire: sizes, directions, IP versions, ways to close, hosts that leave.  Ends with one line,
#
#   soak: N connections, N bytes, 0 wrong bytes, 0 leaked objects, memory flat (A -> B KiB)
#
# and status 0, or says what was wrong and how to repeat it.
#
#   tests/soak.sh [MINUTES [SEED]]   30 minutes by default, and a seed of the day's
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=app/setup.sh
. app/setup.sh

minutes=${1:-30} seed=${2:-$(date +%Y%m%d)}
need_packages build run
if [ ! -f build/gcc/build.ninja ]; then
    mkdir -p build
    if ! log=$(CC=gcc CXX=g++ meson setup build/gcc 2>&1); then
        echo "$log"
        exit 1
    fi
fi
ninja -C build/gcc --quiet app/flued/flued tests/peers/peers-soak
echo "soak: $minutes minutes, seed $seed"
exec build/gcc/tests/peers/peers-soak build/gcc/app/flued/flued $((minutes * 60)) "$seed"
