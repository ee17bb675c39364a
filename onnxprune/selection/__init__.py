"""What goes: settings, costs, budgets and plans."""
