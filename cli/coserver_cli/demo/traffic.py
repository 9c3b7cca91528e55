"""A few customers of the shop: threads with one keep-alive connection each, at a modest rate.

They end with the server. To run them alone: ``python -m coserver_cli.demo.traffic http://127.0.0.1:8000``.
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import threading
from urllib.parse import urlsplit

#: Requests of a customer, in turn: method, path, body.
ERRANDS: list[tuple[str, str, object]] = [
    ("GET", "/", None),
    ("GET", "/items", None),
    ("GET", "/items/2", None),
    ("POST", "/orders", {"item": 2, "count": 1}),
    ("GET", "/items/9", None),
    ("GET", "/ticker", None),
]
CUSTOMERS = 3
#: Seconds between two requests of one customer; three customers make about three requests a second.
PAUSE = 1.0


class Traffic:
    """The customers' threads. ``answered`` counts responses. ``stop`` ends them, and so does the server's end."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self._address = urlsplit(url).netloc
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._customer, args=(number,), daemon=True) for number in range(CUSTOMERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def join(self) -> None:
        """Wait until every customer has left."""
        for thread in self._threads:
            thread.join()

    def _customer(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            for method, path, wanted in itertools.cycle(ERRANDS[number:] + ERRANDS[:number]):
                connection.request(method, path, None if wanted is None else json.dumps(wanted))
                connection.getresponse().read()
                self.answered += 1
                if self._stopped.wait(PAUSE):
                    return
        except (OSError, http.client.HTTPException):
            pass  # the server has stopped
        finally:
            connection.close()


def main() -> None:
    """Send requests to the URL of the first argument until Ctrl+C."""
    traffic = Traffic(sys.argv[1])
    traffic.start()
    try:
        traffic.join()
    except KeyboardInterrupt:
        pass
    print(f"{traffic.answered} requests were answered")


if __name__ == "__main__":
    main()
