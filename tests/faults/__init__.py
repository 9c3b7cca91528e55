"""Fault injection: hostile and broken clients, with raw sockets, against real servers."""
