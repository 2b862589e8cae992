"""`gossamer edge`: what a device's owner can type. Needs no more than the base install."""
