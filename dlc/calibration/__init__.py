"""`dlc calibrate`: what is measured of a machine, and the profile that it becomes."""
