"""Floor 4: what watches a server without being part of it: filters, snapshot, recorder, metrics."""
