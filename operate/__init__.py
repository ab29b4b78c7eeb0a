"""What an operator looks at: what is wrong, metrics, pages."""
