"""Floor 2: sockets on anyio. The stream, listeners, the deadline sweeper and the poller."""
