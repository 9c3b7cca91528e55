"""Not for pytest: what the harness does with a test that takes its process along."""

import os
import unittest


class Two(unittest.TestCase):
    def test_1(self) -> None:
        os._exit(3)

    def test_2(self) -> None:
        pass
