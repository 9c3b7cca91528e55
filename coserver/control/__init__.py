"""Floor 5: the control socket and its client. Nothing yet."""
