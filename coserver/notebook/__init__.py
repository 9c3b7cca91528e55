"""Layer 8: live displays in a notebook: the table of a server, the stepper; and the magics.

| file | what it holds |
|---|---|
| live | ``server.live()``: the live table |
| table_rows | the rows of the live table, and the changes between two drawings |
| step | ``server.step()`` as a panel with buttons |
| panel | the base of both: shown in a cell, pushed to the page, frozen in the notebook's file |
| widget | the widget, made of the scripts below |
| clicks | questions of the page, by the kernel or by a port |
| exchange_page | one exchange as HTML |
| cell | a server's links and failures under the cell that started it |
| magics | ``%%serve``, ``%coserver``, ``%request`` |
| dom.js, clicks.js, table.js, live.js, step.js, mount.js | the widget's module, joined in this order |
"""
