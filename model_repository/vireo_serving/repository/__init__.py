"""Writes model repositories: publishing a version, and going back to one."""
