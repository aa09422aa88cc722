"""One module per rule; `registry` names them all."""
