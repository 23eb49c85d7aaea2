"""Linux: CPU, memory, disks and this process, from /proc, /sys and control groups."""
