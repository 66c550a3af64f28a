"""Run cells here: preflight, the child process, reruns."""
