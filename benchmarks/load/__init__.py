"""Load on a server, and what the server says of it."""
