"""What is shown: tables, plots and explanations."""
