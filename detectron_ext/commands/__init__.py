"""What the tools do, each as one function."""
