"""The accuracy that pruning cost, won back in closed form from unlabelled samples."""
