"""Floor 4: the story of a connection; routes and handlers, listeners, limits, drain."""
