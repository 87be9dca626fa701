"""A run while it trains: the page served live on this machine, and a view in the terminal. Reads files only."""
