"""Labels: the one idea, its facts, and the views that follow from it."""
