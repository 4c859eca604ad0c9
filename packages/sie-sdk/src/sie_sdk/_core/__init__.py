"""What a call is and how it is made, without I/O; the clients and the transports are around it."""
