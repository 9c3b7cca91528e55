"""Floor 5: the control socket, what ``coserver top`` and ``coserver step`` talk to; and its client."""
