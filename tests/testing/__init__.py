"""The public test tools, tested as their users meet them."""
