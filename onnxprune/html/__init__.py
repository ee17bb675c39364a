"""A report as one page for a browser: tables, and the network as a picture. It needs no network access."""
