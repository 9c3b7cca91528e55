"""Tests of the fourth layer: the story of a connection, over real sockets on 127.0.0.1."""
