"""Video: what a file holds (probe), when its frames show (timeline), which of them clips take (sample), the clips."""
