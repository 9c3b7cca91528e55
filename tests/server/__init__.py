"""Tests of the fourth floor: the story of a connection, over real sockets on 127.0.0.1."""
