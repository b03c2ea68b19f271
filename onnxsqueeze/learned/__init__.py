"""What is learned by gradient descent instead of computed: rounding, with the torch extra."""
