"""Runner and watchdog begin together and end together; what one says stands where it can be read."""

PATIENCE_S = 120.0
