"""What the machine gives: files, processes, memory, processors, clocks."""
