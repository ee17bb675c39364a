"""From facts to groups of channels that live and die together."""
