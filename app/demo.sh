#!/bin/bash
# Installs what is missing, builds flue in build/ and plays `flue demo`: the five ways to hand a
# live connection over and to close it, between two network namespaces of its own.  Needs no root,
# except to install packages; leaves nothing but build/ behind.  Arguments go to `flue demo`, such
# as: app/demo.sh --scene c
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=app/setup.sh
. app/setup.sh

echo "1/3 Looking for what flue needs to build and to run ..."
need_packages build run

echo "2/3 Building flued and flue in build/gcc (a minute or two the first time) ..."
if [ ! -f build/gcc/build.ninja ]; then
    mkdir -p build
    if ! log=$(CC=gcc CXX=g++ meson setup build/gcc 2>&1); then
        echo "$log"
        exit 1
    fi
fi
ninja -C build/gcc --quiet app/flued/flued app/flue/flue

echo "3/3 Playing flue demo ..."
exec build/gcc/app/flue/flue demo "$@"
