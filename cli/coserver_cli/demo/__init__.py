"""A small shop to try coserver on: ``coserver demo``, or ``coserver serve coserver_cli.demo.shop:app``."""
