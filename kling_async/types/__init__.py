"""What is: frozen values and their validation, nothing else. They never wait, read, write or ask the time."""
