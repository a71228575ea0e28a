"""Real processes killed at any moment, and disks that refuse: what was bought and what is there must agree."""
