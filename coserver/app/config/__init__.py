"""The settings of servers and of the command, and their sources.

| file | what it holds |
|---|---|
| settings | ``Settings``, ``ListenerSettings``, ``UpstreamSettings``: the keywords of ``App.run`` |
| process_settings | ``HookSettings``, ``LogSettings``: settings of the command's process |
| tls | ``Tls``: certificates and keys of a listener |
| validate | checks of addresses, TLS settings, backends, times |
| table | the table of all options, made from the fields of these dataclasses |
| values | parse values as people write them: "10 MiB", "30s" |
| file | read ``coserver.toml`` |
| toml_lines | the line of each key of a TOML document |
| resolve | combine flags, environment, file and defaults |
"""
