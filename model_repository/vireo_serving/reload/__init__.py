"""Takes over a new version of a repository while a server runs."""
