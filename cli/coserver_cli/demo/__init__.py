"""``coserver demo``: a small shop to try coserver on.

| file | what it holds |
|---|---|
| demo | serve the shop, and print what to try |
| shop | the shop's app; also ``coserver serve coserver_cli.demo.shop:app`` |
| traffic | a few customers, as threads |
"""
