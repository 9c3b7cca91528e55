"""Floor 6: App and the running Server, composed of everything below."""
