"""How records travel: the data plane's loop around pure folds, and the control plane around handlers."""
