"""A client that pauses: `python -m benchmarks.paced PORT PATH HEAD CONNECTIONS SECONDS RATE`.

Each connection asks, waits for its answer, and asks again when its next turn comes: CONNECTIONS / RATE seconds after
the last one. The turns of the connections are spread evenly. A connection whose answer is late asks as soon as it has
come, and does not make up for the turns that it missed. One thread does all, and its CPU is not the server's.
"""

import heapq
import json
import re
import select
import socket
import sys
import time

from benchmarks.rows import HEADS

STALE_SECONDS = 5.0
_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search


def is_whole(answer: bytes) -> bool:
    """Whether the bytes are a whole response. Raises SystemExit for one without a Content-Length."""
    end = answer.find(b"\r\n\r\n") + 4
    if end < 4:
        return False
    length = _length(answer, 0, end)
    if length is None:
        raise SystemExit("--paced needs answers with a Content-Length")
    return len(answer) >= end + int(length[1])


def main(port: int, path: str, head: str, connections: int, seconds: float, rate: float) -> dict[str, object]:
    """Load the server, and return the counts in the form of wrk's."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in HEADS[head])]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    gap = connections / rate
    begin = time.monotonic()
    sockets: dict[int, socket.socket] = {}
    due: list[tuple[float, int]] = []
    epoll = select.epoll()
    for number in range(connections):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[one.fileno()] = one
        epoll.register(one, select.EPOLLIN)
        due.append((begin + number * gap / connections, one.fileno()))
    heapq.heapify(due)
    asked: dict[int, float] = {}  # when each connection under way began
    turns: dict[int, float] = {}
    begun: dict[int, bytes] = {}  # answers that have come in part
    took: list[float] = []
    size = 0
    errors = {"read": 0, "status": 0, "timeout": 0}
    end = begin + seconds
    while (now := time.monotonic()) < end:
        while due and due[0][0] <= now:
            turn, fd = heapq.heappop(due)
            sockets[fd].sendall(request)
            asked[fd], turns[fd] = now, turn
        wait = min((due[0][0] if due else end), end) - time.monotonic()
        for fd, _ in epoll.poll(max(wait, 0)):
            piece = sockets[fd].recv(65_536)
            now = time.monotonic()
            if not piece:
                errors["read"] += 1
                epoll.unregister(fd)
                asked.pop(fd, None)
                continue
            answer = begun.pop(fd, b"") + piece
            if not is_whole(answer):
                begun[fd] = answer
                continue
            if not answer.startswith(b"HTTP/1.1 200"):
                errors["status"] += 1
            size += len(answer)
            took.append(now - asked.pop(fd))
            heapq.heappush(due, (max(turns[fd] + gap, now), fd))
    errors["timeout"] = sum(end - since > STALE_SECONDS for since in asked.values())
    lasted = time.monotonic() - begin
    for one in sockets.values():
        one.close()
    took.sort()
    return {
        "requests": len(took),
        "duration_us": int(lasted * 1e6),
        "bytes": size,
        "p50_us": int(took[len(took) // 2] * 1e6) if took else 0,
        "p99_us": int(took[len(took) * 99 // 100] * 1e6) if took else 0,
        "errors": errors,
    }


if __name__ == "__main__":
    port, path, head, connections, seconds, rate = sys.argv[1:]
    counted = main(int(port), path, head, int(connections), float(seconds), float(rate))
    print(f"RESULT {json.dumps(counted)}")
