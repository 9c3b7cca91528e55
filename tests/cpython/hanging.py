"""Not for pytest: what the harness does with a test that hangs."""

import time
import unittest


class Three(unittest.TestCase):
    def test_1(self) -> None:
        pass

    def test_2(self) -> None:
        time.sleep(60)

    def test_3(self) -> None:
        pass
