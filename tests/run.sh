#!/bin/bash
# Builds flue with both compilers, runs every test, and says at the end "N passed, N failed".
#
#   g++ 12 with optimisation          every suite
#   clang 14 with address and         unit, rules, queue, e2e, fuzz-smoke
#     undefined-behaviour sanitizers
#   clang 14 with thread sanitizer    race
#   clang 14 with libFuzzer, address  fuzz: each fuzzer for FLUE_FUZZ_SECONDS, or 60 s with CI=true;
#     and undefined-behaviour           without either not at all
#     sanitizers
#
# A build counts as one test, a GoogleTest program as its cases.  Everything is built under build/.
# Exit status: 0 when nothing failed.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. app/setup.sh

passed=0 failed=0 skipped=0
child=
export ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

# run COMMAND... in a process group of its own, so that stop can end all of it.
run() {
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    wait "$child"
    local status=$?
    child=
    return "$status"
}

# Meson ends its tests when it is asked to stop; what does not follow within 5 s is killed.
stop() {
    trap - INT TERM HUP EXIT
    if [ -n "$child" ]; then
        kill -TERM -- "-$child" 2>/dev/null
        for _ in {1..50}; do
            kill -0 -- "-$child" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$child" 2>/dev/null
    fi
    exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM HUP
trap 'stop $?' EXIT

announce() {
    started=$SECONDS
    echo
    echo "== $*"
}

took() {
    echo "-- $1, $((SECONDS - started)) s"
}

# compiler NAME: through ccache where there is one
compiler() {
    if command -v ccache >/dev/null; then echo "ccache $1"; else echo "$1"; fi
}

# configure DIRECTORY CC CXX OPTION...
configure() {
    local directory=$1 cc cxx
    cc=$(compiler "$2") cxx=$(compiler "$3")
    shift 3
    # A directory that an older meson.build made may not be reconfigurable: then start it afresh.
    [ -f "$directory/build.ninja" ] &&
        meson setup --reconfigure "$directory" "$@" >/dev/null 2>&1 && return 0
    rm -rf "$directory" && mkdir -p "$directory"
    CC=$cc CXX=$cxx meson setup "$directory" "$@" >"$directory/setup.log" 2>&1 ||
        { cat "$directory/setup.log"; return 1; }
}

# programs_of DIRECTORY SUITE: the programs that tests of a suite run, as targets of ninja
programs_of() {
    meson introspect --tests "$1" | python3 -c '
import json, os, sys
directory, suite = os.path.abspath(sys.argv[1]), "flue:" + sys.argv[2]
for test in json.load(sys.stdin):
    if suite in test["suite"]:
        print(os.path.relpath(test["cmd"][0], directory))' "$1" "$2"
}

# build DIRECTORY CC CXX [--only SUITE] OPTION...: one check
build() {
    local directory=$1 cc=$2 cxx=$3 suite="" targets=(all)
    shift 3
    if [ "${1:-}" = --only ]; then suite=$2; shift 2; fi
    announce "building ${suite:+suite $suite }with $cxx $*"
    if run configure "$directory" "$cc" "$cxx" "$@" &&
        { [ -z "$suite" ] || mapfile -t targets < <(programs_of "$directory" "$suite"); } &&
        { [ ${#targets[@]} != 0 ] || { echo "no test belongs to suite $suite"; false; }; } &&
        run ninja --quiet -j "$(nproc)" -C "$directory" "${targets[@]}"; then
        passed=$((passed + 1))
        took "built"
        return 0
    fi
    failed=$((failed + 1))
    took "BUILD FAILED"
    return 1
}

# suites DIRECTORY NAME OPTION...: runs tests of a finished build and counts their cases
suites() {
    local directory=$1 name=$2 status p f s log=$1/meson-logs/testlog.json
    shift 2
    announce "running $name"
    rm -f "$log"
    run "${fixed_layout[@]}" meson test -C "$directory" --no-rebuild --print-errorlogs \
        --num-processes 2 "$@"
    status=$?
    read -r p f s < <(python3 tests/results.py "$log" || echo "0 1 0")
    [ "$status" = 0 ] || [ "$f" != 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    took "$p passed, $f failed$([ "$s" = 0 ] || echo ", $s skipped")"
}

# With the address space layouts of newer kernels the sanitizers of clang 14 may not find room.
fixed_layout=()
if setarch -R true 2>/dev/null; then fixed_layout=(setarch -R); fi

announce "packages"
if ! need_packages build run check; then
    echo
    echo "0 passed, 1 failed"
    exit 1
fi
took "there"

build build/gcc gcc g++ && suites build/gcc "every suite, g++"

build build/sanitized clang-14 clang++-14 -Db_sanitize=address,undefined -Dcpp_args=-DFLUE_DEBUG &&
    suites build/sanitized "unit, rules, queue, e2e, fuzz-smoke; address and undefined sanitizers" \
        --suite unit --suite rules --suite queue --suite e2e --suite fuzz-smoke \
        --timeout-multiplier 4

build build/race clang-14 clang++-14 --only race -Db_sanitize=thread &&
    suites build/race "race; thread sanitizer" --suite race --timeout-multiplier 4

announce "rules of the contract, by the tests that ran"
logs=(build/gcc/meson-logs/testlog.json)
[ -f build/sanitized/meson-logs/testlog.json ] && logs+=(build/sanitized/meson-logs/testlog.json)
if run python3 tests/rules/table.py --check "${logs[@]}"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
fi

fuzz_seconds=${FLUE_FUZZ_SECONDS:-}
if [ "${CI:-}" = true ]; then fuzz_seconds=${fuzz_seconds:-60}; fi
if [ -n "$fuzz_seconds" ]; then
    build build/fuzz clang-14 clang++-14 --only fuzz -Db_sanitize=address,undefined \
        "-Dcpp_args=-DFLUE_DEBUG -fsanitize=fuzzer-no-link" &&
        suites build/fuzz "each fuzzer for $fuzz_seconds s" \
            --suite fuzz "--test-args=-max_total_time=$fuzz_seconds"
fi

echo
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
