"""Floor 5: what a person sees of a snapshot; the only floor that knows a screen. Nothing yet."""
