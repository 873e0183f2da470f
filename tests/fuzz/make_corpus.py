#!/usr/bin/env python3
"""Makes the first inputs of each fuzzer: short scripts that reach what random bytes hardly would.

    tests/fuzz/make_corpus.py           writes tests/fuzz/corpus/<fuzzer>/<name>
    tests/fuzz/make_corpus.py --check   says which of them differ, and exits with 1 then

Files that it does not know stay: inputs that once found a bug, named after its cause.
"""

import pathlib
import struct
import sys


def u16(*values):
    return struct.pack(f"<{len(values)}H", *values)


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


# ---------------------------------------------------------------------------------------- options

ETHERNET = bytes.fromhex("9acf7e9f90b1defc66aea2df")
FRAMES = {  # between two Linux kernels, as in tests/unit/wire/frames.hpp
    "syn-ipv4": ETHERNET + bytes.fromhex(
        "08004500003c14144000400612940a0900010a090002ac941e619fb433bb00000000a002faf064b30000"
        "020405b40402080ae39f523f000000000103030a"),
    "data-ipv4": ETHERNET + bytes.fromhex(
        "08004500003714174000400612960a0900010a090002ac941e619fb433ccdbbc1bf48018003f993e0000"
        "0101080ae39f5271951c94666f6464"),
    "data-ipv6": ETHERNET + bytes.fromhex(
        "86dd6006c9e700230640fd090000000000000000000000000001fd090000000000000000000000000002"
        "804e1e61ca116eea59c7fd4280180040863d00000101080ab0f2a07556fd4b9e6f6464"),
}


def options():
    for name, frame in FRAMES.items():
        yield name, b"\0" + frame
        tagged = frame[:12] + bytes.fromhex("81002007") + frame[12:]
        yield name + "-tagged", b"\0" + tagged
    tcp = struct.pack("!HHIIBBHHH", 80, 1234, 1, 2, 0, 0x10, 512, 0, 0)
    timestamps = bytes.fromhex("0101080a0000000100000002")
    ranges = b"".join(struct.pack("!II", 100 * i, 100 * i + 50) for i in range(4))
    for name, words, tail in (
            ("timestamps", 8, timestamps),
            ("sack-4", 14, b"\1\1\5\x22" + ranges),
            ("sack-and-timestamps", 15, timestamps + b"\1\1\5\x1a" + ranges[:24]),
            ("length-0", 6, b"\x08\0\1\1"),
            ("length-beyond", 6, b"\1\1\5\x22"),
            ("header-beyond", 15, b""),
            ("end-of-list", 7, b"\0\x08\x0a\1\2\3\4\5")):
        yield "segment-" + name, b"\1" + bytes([name.count("s") & 1, 1, words]) + tcp + tail
    for name, stamps, sacks in (("plain", 0, 0), ("full", 1, 4), ("sack", 0, 4),
                                ("stamped", 1, 0)):
        for family, size in ((1, 4), (0, 16)):
            flow = bytes([2, family]) + bytes(range(1, 2 * size + 1)) + u16(80, 1234, 7)
            flow += bytes([64, 3]) + u32(0x12345)
            fields = u32(0xfffffff0, 9) + u16(512, 0) + bytes([0x18, stamps, sacks])
            fields += u32(*range(7, 7 + 2 * stamps + 2 * sacks))
            yield f"build-{name}-{4 if family else 6}", flow + fields + b"\5hello" + u16(99)
    for name, message, packet in (
            ("4", b"\1" + struct.pack("!BBHHH", 3, 4, 0, 0, 1400), FRAMES["data-ipv4"][14:]),
            ("6", b"\0" + struct.pack("!BBHI", 2, 0, 0, 1400), FRAMES["data-ipv6"][14:])):
        yield "too-big-" + name, b"\3" + message + packet
        yield "too-big-short-" + name, b"\3" + message + packet[:40]


# --------------------------------------------------------------------------------------- segments

SEGMENT, TRANSMIT, TIME, POST, CONSUME, TAKE_BACK = (2 * step for step in (0, 4, 6, 7, 8, 9))
HAND_OVER, ABORT, STOP, FORGO, FORGET, NOTICES, TOO_BIG = (2 * step for step in range(10, 17))
ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK = 0, 2, 3, 4, 5, 6
FIN = 0x20
ALL = 7  # of a batch
IN_ORDER, TO_EDGE = 0, 1  # where a segment begins
ACK_UNA, ACK_NXT, ACK_MAX = 0, 4, 8


def adopted(state=ESTABLISHED, flags=0, flight=0):
    parameters = bytes([flags, 1, 1, 0, 0, 0, 0, 0, 0])
    return parameters + bytes([state, 0, 0, 0, flight]) + bytes(20)


def segment(shape, length, window=0, timestamps=b""):
    return bytes([SEGMENT, shape, window]) + timestamps + bytes([length])


def segments():
    send = bytes([POST, 3, 0, TRANSMIT, ALL])
    send_fin = bytes([POST, 2, 255, TRANSMIT, ALL])
    data, ack = segment(IN_ORDER, 4), segment(ACK_MAX, 0)
    read = bytes([CONSUME, 2, NOTICES])
    yield "send-and-ack", adopted() + send + ack + bytes([TAKE_BACK])
    yield "receive-and-read", adopted() + data + data + bytes([TRANSMIT, ALL]) + read
    yield "loss-and-timeout", adopted() + send + bytes([TIME, 4, TRANSMIT, ALL]) + ack
    duplicates = 3 * segment(ACK_UNA, 0)
    yield "fast-retransmit", adopted(flags=2) + 3 * send + duplicates + bytes([TRANSMIT, ALL]) + ack
    yield "too-big", adopted(flags=2) + send + bytes([TOO_BIG, 0, 0, 0, TRANSMIT, ALL]) + ack
    yield "too-big-recovering", adopted() + 3 * send + duplicates + bytes(
        [TRANSMIT, ALL, TOO_BIG, 2, 0, 0, TRANSMIT, ALL]) + ack
    hole = segment(3, 4)
    yield "out-of-order", adopted(flags=2) + hole + bytes([TRANSMIT, ALL]) + data + data + read
    yield "close-first", adopted() + send_fin + ack + segment(FIN, 0) + bytes([TIME, 5])
    yield "close-last", adopted() + segment(FIN, 0) + send_fin + ack + bytes([TAKE_BACK])
    yield "close-both", adopted() + send_fin + segment(FIN | ACK_UNA, 0) + ack
    yield "abort", adopted() + send + bytes([ABORT, TRANSMIT, ALL, TAKE_BACK, FORGET])
    yield "reset", adopted() + segment(0x40, 0)[:2] + bytes([4, 0, 0, NOTICES])
    wait = bytes([TIME, 0, TRANSMIT, ALL])
    yield "shut-window", adopted() + segment(0, 0, 1) + send + 3 * wait + ack
    yield "timestamps", adopted(flags=1) + segment(0, 4, 0, b"\1\0") + send + segment(
        ACK_MAX, 0, 0, b"\2\0")
    both = adopted() + b"\1" + adopted() + bytes([POST | 1, 3, 0, POST, 3, 0])
    yield "ack-waits-for-data", both + data + data + bytes([TRANSMIT, 0])
    yield "keep-alive", adopted(flags=8) + 4 * wait
    for name, state, flight in (("established", ESTABLISHED, 3), ("close-wait", CLOSE_WAIT, 3),
                                ("fin-wait-1", FIN_WAIT_1, 3), ("fin-wait-2", FIN_WAIT_2, 0),
                                ("closing", CLOSING, 3), ("last-ack", LAST_ACK, 1)):
        took = adopted(state, flight=flight)
        missing = bytes([POST, 3, 0, POST, 2, 0, TRANSMIT, ALL, TIME, 4, TRANSMIT, ALL])
        move = bytes([HAND_OVER, TRANSMIT, ALL])
        yield "adopt-" + name, took + missing + ack + segment(FIN, 0) + move
        yield "forgo-" + name, took + ack + bytes([FORGO, POST, 1, 255, TRANSMIT, ALL]) + ack


# ---------------------------------------------------------------------------------- work requests

HOLD, OFFLOAD, SEND, RECV, DISCONNECT, TERMINATE, RELEASE, QUERY, UPDATE, INVALIDATE, FORWARD = (
    range(1, 12))
BLOCK, DATA = b"\0", 1
NO_CONN = 8
FLAGGED = 130  # FLAGGED: a multiple of 13 above 128
TURN, POLL = b"\x0f", b"\x0c"


def data_sge(place, length):
    return bytes([DATA, place, length])


def post(opcode, handle, *sges, flags=None, kind_of_object=0, drain=0):
    kind = opcode if flags is None and not kind_of_object else FLAGGED + opcode
    extra = b"" if kind == opcode else bytes([flags or 0, kind_of_object, drain])
    return bytes([0, kind, handle]) + extra + bytes([len(sges)]) + b"".join(sges)


def state(number=0, shape=0, tail=b""):
    return bytes([6, shape, number]) + tail


def work_requests():
    offload = state() + post(OFFLOAD, NO_CONN, BLOCK) + TURN + POLL
    data = bytes([8, 0x40 | 0x10 | 0x80, 20])
    ack, fin = bytes([8, 4 | 0x80]), bytes([8, 4 | 8 | 0x80])
    wait = bytes([11, 3])
    send = post(SEND, 0, data_sge(0, 3)) + TURN
    recv = post(RECV, 0, data_sge(64, 4)) + TURN
    upload = post(TERMINATE, 0, BLOCK, data_sge(0, 4)) + TURN + TURN + POLL
    for ending, name in enumerate(("drain", "drain-in-order", "abort", "abort-in-order")):
        def script(*parts):
            return bytes([ending]) + b"".join(parts)
        yield "send-" + name, script(offload, send, ack, TURN, POLL)
        yield "receive-" + name, script(offload, recv, data, TURN, POLL, data, recv, POLL)
        yield "close-" + name, script(offload, send, post(DISCONNECT, 0), TURN, ack, fin, POLL)
        yield "abort-" + name, script(offload, send, post(DISCONNECT, 0, flags=1), TURN, TURN, POLL)
        yield "upload-" + name, script(offload, send, data, upload)
        yield "hold-" + name, script(state(), post(HOLD, NO_CONN, BLOCK), TURN, POLL, data,
                                     post(OFFLOAD, 0, BLOCK), TURN, POLL, recv)
        yield "held-" + name, script(state(), post(HOLD, NO_CONN, BLOCK), TURN, POLL, data,
                                     post(RELEASE, 0), TURN)
        yield "keep-held-" + name, script(
            offload, fin, post(TERMINATE, 0, BLOCK, flags=4), TURN, TURN, POLL,
            post(RELEASE, 0, flags=32), TURN)
    script = b"\3"
    yield "query-and-update", script + offload + post(QUERY, 0, BLOCK) + TURN + post(
        UPDATE, 0, BLOCK) + TURN + post(INVALIDATE, 0) + TURN + POLL
    yield "forward", script + offload + post(FORWARD, 0, data_sge(0, 2)) + TURN + POLL
    yield "drain-deadline", script + offload + post(DISCONNECT, 0, flags=8, drain=1) + TURN + wait
    yield "time-wait", script + state() + post(OFFLOAD, NO_CONN, BLOCK, flags=16) + TURN + POLL + (
        post(DISCONNECT, 0) + TURN + ack + fin + upload + fin + wait)
    yield "backlog", script + state(shape=16, tail=b"\2") + post(
        OFFLOAD, NO_CONN, BLOCK, data_sge(0, 2)) + TURN + POLL + recv
    yield "nic-holds-items", script + offload + bytes([13, 3]) + send + ack + bytes([13, 5]) + POLL
    yield "scribble", script + offload + bytes([14, 2, 2]) + send + TURN + POLL + TURN
    for number in range(1, 7):
        yield f"state-{number}", script + state(number, 4, b"\5") + post(
            OFFLOAD, NO_CONN, BLOCK) + TURN + POLL + send + ack + fin + upload


# ----------------------------------------------------------------------------------- state blocks

# Where some fields of struct flue_state lie.
CONST_FLAGS, CACHED_FLAGS, CONGESTION, TCP_STATE, DUP_ACKS, RETRANSMITS = 9, 66, 70, 92, 93, 94
SND_NXT, SND_MAX, SND_WND, RETRANSMIT_DELTA = 109, 113, 116, 164  # of the first two the high byte


def changed(*changes):
    return bytes([len(changes)]) + b"".join(bytes(change) for change in changes)


def state_blocks():
    talk = bytes([3, 2, 0, 5, 2, 1, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 4, 3, 0, 255, 5, 0, 6])
    yield "ordinary", changed() + talk
    yield "raw", b"\xff" + bytes(256)
    yield "not-sealed", b"\xfa" + talk
    for number in range(0, 12):
        yield f"tcp-state-{number}", changed((TCP_STATE, number)) + talk
        sent = changed((TCP_STATE, number), (SND_NXT, 0x30), (SND_MAX, 0x30))
        yield f"tcp-state-{number}-sent", sent + talk
    yield "options", changed((CONST_FLAGS, 7), (CACHED_FLAGS, 3)) + talk
    for number in range(5):
        yield f"congestion-{number}", changed((CONST_FLAGS, 15), (CONGESTION, number)) + talk
    yield "dctcp-without-ecn", changed((CONGESTION, 3)) + talk
    yield "shut-window", changed((SND_WND + 2, 0)) + talk
    lost = changed((DUP_ACKS, 3), (SND_MAX, 0x30), (SND_NXT, 0x30), (RETRANSMITS, 2))
    yield "recovery", lost + talk
    yield "timer-at-once", changed(*((RETRANSMIT_DELTA + i, 0) for i in range(4))) + talk


# ------------------------------------------------------------------------------- session messages

HELLO, CREATE, DESTROY, REGISTER, DEREGISTER, GOODBYE, CLAIM = range(1, 8)
WORK, REPLY = b"\x0b\0", b"\x07"
SERVE = b"\x05"


def message(number, queue=0, last_key=1, size=0, fds=0, descriptor=b"", policy=0):
    fields = bytes([0, number, 0, policy, queue, 0, 0, last_key]) + (b"" if last_key else u32(9))
    return fields + bytes([size, 65, fds]) + descriptor + SERVE + WORK + WORK + WORK + REPLY


def session_messages():
    hello = message(HELLO)
    region = message(REGISTER, descriptor=b"\6")
    queue = message(CREATE)
    yield "hello-and-goodbye", hello + message(GOODBYE)
    yield "no-hello", queue
    yield "two-hellos", hello + hello
    yield "queue", hello + queue + message(DESTROY, queue=1)
    yield "too-many-queues", hello + 3 * queue
    yield "region", hello + region + message(DEREGISTER)
    yield "too-many-regions", hello + 3 * region
    for kind in range(7):
        yield f"region-of-{kind}", hello + message(REGISTER, descriptor=bytes([kind]))
    yield "region-too-long", hello + message(REGISTER, size=4, descriptor=b"\6")
    yield "unknown-key", hello + message(DEREGISTER, last_key=0)
    yield "claim", hello + message(CLAIM, descriptor=b"\1")
    for number in range(8, 13):
        yield f"type-{number}", hello + message(number)
    yield "three-descriptors", hello + message(CREATE, fds=203, descriptor=b"\0\1\6")
    yield "short", hello + bytes([4, 3, 1, 2, 3, 0]) + SERVE
    yield "hang-up", hello + queue + region + bytes([8, 1]) + queue
    waits = hello + queue + message(DESTROY, queue=1)[:-8]
    yield "hang-up-while-waiting", waits + bytes([8, 1])
    held = message(HELLO, policy=2) + queue + region
    again = bytes([8, 1, 8, 0, 0]) + REPLY + message(10) + message(10, queue=1) + message(11)
    yield "reattach", held + again + message(GOODBYE)
    yield "reattach-twice", held + again + again
    yield "reattach-busy", held + bytes([8, 0, 0])
    yield "reattach-wrong-token", held + bytes([8, 1, 8, 0, 255])
    yield "guest", message(9) + message(9)


FUZZERS = {"options": options, "segments": segments, "session_messages": session_messages,
           "state_blocks": state_blocks, "work_requests": work_requests}


def main(check):
    root = pathlib.Path(__file__).resolve().parent / "corpus"
    different = 0
    for fuzzer, inputs in FUZZERS.items():
        (root / fuzzer).mkdir(parents=True, exist_ok=True)
        for name, data in inputs():
            path = root / fuzzer / name
            if check:
                if not path.is_file() or path.read_bytes() != data:
                    print(f"{path} is not what this script makes")
                    different += 1
            else:
                path.write_bytes(data)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
