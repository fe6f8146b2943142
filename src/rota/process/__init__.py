"""What every long-running process of ours needs and none of its layers owns: clocks and logs."""
