"""AMD GPUs, from what their driver shows in /sys."""
