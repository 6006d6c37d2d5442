"""What is true: oracles, modules, data, training and costs."""
