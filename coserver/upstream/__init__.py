"""Floor 3: subrequests to upstream servers. Nothing yet."""
