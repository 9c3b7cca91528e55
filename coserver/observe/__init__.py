"""Floor 4: what watches a server without being part of it: recorder, snapshot, metrics, stepper. Nothing yet."""
