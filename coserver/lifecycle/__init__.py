"""Floor 1: phases and events, in what order they come, who is told and who may hold. The standard library only."""
