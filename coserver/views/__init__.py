"""Floor 5: what a person sees; the only floor that knows a screen. So far the page that shows a handler's error."""
