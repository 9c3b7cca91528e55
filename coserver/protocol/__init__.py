"""Ground floor: bytes to messages and back. No clock, no I/O, no async, no threads."""
