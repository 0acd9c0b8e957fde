"""What a network does to a connection between two programs."""

import socket
import struct


def reset_when_closed(connection: socket.socket) -> None:
    """Let the other side be told RST at the end, as when a network or a machine fails."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
