"""Floor 7: what a person sees; the only floor that knows a screen. A view is a file with ``render``, and a demo.

``python -m coserver.views.x`` shows each: waterfall, waterfall_svg, traces, exchange, frozen.
"""
