"""What layers read, and its second moments: the ground that data-driven criteria and recovery share."""
