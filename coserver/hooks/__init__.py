"""Floor 2: worker greenlets, in which blocking code suspends only itself."""
