"""What contributes nothing, and how it goes without a trace."""
