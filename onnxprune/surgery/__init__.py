"""From kept channels to the slim model."""
