"""What the clients send, and what they must get back."""

from __future__ import annotations

from hashlib import sha256

#: Longer than what is sent in one write, and than a socket's buffers.
BIG = bytes(range(256)) * 12_000
DIGEST = {"size": len(BIG), "sha256": sha256(BIG).hexdigest()}
LINES = "".join(f"line {number}\n" for number in range(100))
#: Seconds that no test needs, unless something hangs.
TIMEOUT = 60.0
