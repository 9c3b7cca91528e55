"""``coserver demo``: a small shop to try coserver on.

demo.py      serve the shop, and print what to try
shop.py      the shop's app; also ``coserver serve coserver_cli.demo.shop:app``
traffic.py   a few customers, as threads
"""
