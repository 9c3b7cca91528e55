"""Floor 8: what a notebook shows that is alive, the table and the stepper: a widget, and the way of its clicks."""
