"""What is compared: ways from a text to ten images, each in a process of its own."""
