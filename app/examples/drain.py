#!/usr/bin/env python3
"""drain.py PORT-OF-REMOTE ADDRESS-OF-REMOTE SOCKET-OF-TARGET

Connects, sends standard input, hands the connection over to the target, and exits at once: what is
not sent by then, and the close, are the target's.  include/flue/drain.h describes the message.
"""

import socket
import struct
import sys

VERSION, DRAIN, ABORT_AT_DEADLINE = 2, 8, 1


def hand_over(target_path, connection, drain_ms):
    """Asks the target to drain a connected socket within `drain_ms`, else to reset it."""
    message = struct.pack("=HH100xII16x", VERSION, DRAIN, drain_ms, ABORT_AT_DEADLINE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as target:
        target.connect(target_path)
        socket.send_fds(target, [message], [connection.fileno()])
        # To know what became of it: status = struct.unpack_from("=H", target.recv(128), 4)[0]


def main(port, address, target_path):
    with socket.create_connection((address, int(port))) as connection:
        while data := sys.stdin.buffer.read(1 << 16):
            connection.sendall(data)
        hand_over(target_path, connection, 5000)


if __name__ == "__main__":
    main(*sys.argv[1:])
