"""How much a channel matters: layers, scores, and the registry of passes."""
